// simulate/truth.h - what is so, whatever the machines believe: which models exist, what the disk has, what each request came to. Roles
// tell it what they do, and it says when that must not be.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "catalog/catalogue.h"
#include "catalog/manifest.h"
#include "message/infer.h"
#include "simulate/world.h"
#include "store/event_store.h"

namespace cenote::simulate {

// The controller's disk: outlives its processes.
struct Disk {
  std::unique_ptr<EventStore> store = open_memory_store();
  Catalogue durable;          // As the store's events make it.
  bool full = false;
  Duration append_latency = Duration::from_ms(2);
};

class Truth {
 public:
  explicit Truth(World& world) : world_(world) {}

  // ---- models: a made-up revision's content is known before it is deployed
  void add_model(const RevisionRecord& record) { models_[record.digest] = record; }
  const RevisionRecord* model(const Digest& revision) const;
  const std::map<Digest, RevisionRecord>& models() const { return models_; }
  // Section 1 of its manifest. Sums as chunk_sum() makes them.
  static std::vector<BlockEntry> entries(const RevisionRecord& record);

  // ---- the catalogue
  // The store has them: from now on they are facts.
  void appended(const std::vector<CatalogueEvent>& events);
  // A controller that starts, or answers a change, must know exactly what the disk has.
  void check_catalogue(const Catalogue& catalogue, const std::string& when);
  Disk disk;
  // Whether `model` was resolvable throughout [from, now].
  bool known_since(const std::string& model, Instant from) const;

  // ---- requests
  struct Asked {
    std::string model;
    Instant submitted;
    Instant deadline;
    bool cancelled = false;
    bool must_succeed = false;
    bool patient = false;       // Its deadline lies well after the last fault.
    Digest meant;               // What its model was when it was made; empty: nothing.
    int outcomes = 0;
    absl::Status status;
    Instant ended;
  };
  void asked(const RequestId& id, Asked request);
  void cancelled(const RequestId& id) { requests_.at(id).cancelled = true; }
  void answered(const RequestId& id, const absl::Status& status, const InferReply* reply);
  const std::map<RequestId, Asked>& requests() const { return requests_; }
  size_t open_requests() const { return requests_.size() - ended_; }

 private:
  void note_unknown();
  absl::Status check_outcome(const Asked& request, const absl::Status& status, const InferReply* reply) const;

  World& world_;
  std::map<Digest, RevisionRecord> models_;
  std::map<std::string, Instant> unknown_at_;   // Model as it may be named -> when it was last not resolvable.
  std::map<RequestId, Asked> requests_;
  size_t ended_ = 0;
};

}  // namespace cenote::simulate
