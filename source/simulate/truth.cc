#include "simulate/truth.h"

#include "base/status.h"
#include "simulate/content.h"

namespace cenote::simulate {

const RevisionRecord* Truth::model(const Digest& revision) const {
  const auto found = models_.find(revision);
  return found == models_.end() ? nullptr : &found->second;
}

std::vector<BlockEntry> Truth::entries(const RevisionRecord& record) {
  std::vector<BlockEntry> entries;
  for (const BlockRef& block : record.blocks) {
    BlockEntry entry{.ref = block};
    for (uint32_t i = 0; i < chunk_count(block.size_bytes); ++i) entry.chunk_sums.push_back(chunk_sum(block.id, i));
    entries.push_back(std::move(entry));
  }
  return entries;
}

void Truth::note_unknown() {
  for (auto& [model, unknown] : unknown_at_) {
    if (!disk.durable.resolve(model).ok()) unknown = world_.now();
  }
}

void Truth::asked(const RequestId& id, Asked request) {
  unknown_at_.try_emplace(request.model, disk.durable.resolve(request.model).ok() ? Instant{-1} : world_.now());
  if (const auto meant = disk.durable.resolve(request.model); meant.ok()) request.meant = *meant;
  requests_[id] = std::move(request);
}

void Truth::appended(const std::vector<CatalogueEvent>& events) {
  note_unknown();  // Until now.
  for (const CatalogueEvent& event : events) {
    if (const absl::Status applied = disk.durable.apply(event); !applied.ok()) {
      world_.fail(str_cat("the store took an event that does not apply: ", describe_event(event), ": ", to_std(applied.message())));
    }
  }
  note_unknown();
}

bool Truth::known_since(const std::string& model, Instant from) const {
  const auto found = unknown_at_.find(model);
  return disk.durable.resolve(model).ok() && (found == unknown_at_.end() || found->second < from);
}

void Truth::check_catalogue(const Catalogue& catalogue, const std::string& when) {
  if (catalogue.fingerprint() == disk.durable.fingerprint()) return;
  world_.fail(str_cat("the controller's catalogue is not what its disk has, ", when));
}

void Truth::answered(const RequestId& id, const absl::Status& status, const InferReply* reply) {
  const auto found = requests_.find(id);
  if (found == requests_.end()) return world_.fail(str_cat("request ", id.hex(), " ended and was never made"));
  Asked& request = found->second;
  world_.say("request ", id.low, " for ", request.model, " ends: ", status.ok() ? "ok" : std::string(status.message()));
  world_.note(static_cast<uint64_t>(status.code()));
  if (++request.outcomes == 1) ++ended_;
  request.status = status;
  request.ended = world_.now();
  if (const absl::Status wrong = check_outcome(request, status, reply); !wrong.ok()) {
    world_.fail(str_cat("request ", id.low, " for ", request.model, " (made at ", request.submitted.ns / 1'000'000, " ms): ", to_std(wrong.message()),
                        "; its status: ", status.ToString()));
  }
}

absl::Status Truth::check_outcome(const Asked& request, const absl::Status& status, const InferReply* reply) const {
  if (request.outcomes != 1) return absl::InternalError("it ended twice");
  if (world_.now() > request.deadline + Duration::from_ms(5)) return absl::InternalError("it ended after its deadline");
  if (request.must_succeed && !status.ok()) return absl::InternalError("the cluster is whole, and it fails");
  const bool at_deadline = world_.now() + Duration::from_ms(5) >= request.deadline;
  switch (status.code()) {
    case absl::StatusCode::kOk: {
      if (reply == nullptr || reply->outputs.size() != 1) return absl::InternalError("it is answered without outputs");
      if (reply->outputs[0].bytes.substr(0, 64) != reply->revision.hex()) return absl::InternalError("another revision was computed than the reply says");
      const RevisionRecord* record = model(reply->revision);
      if (record == nullptr || record->name != request.model.substr(0, request.model.find_first_of(":@"))) {
        return absl::InternalError("the revision that answered is not of this name");
      }
      return absl::OkStatus();
    }
    case absl::StatusCode::kUnavailable:
    case absl::StatusCode::kDeadlineExceeded:
      return at_deadline ? absl::OkStatus() : absl::InternalError("it is given up before its deadline");
    case absl::StatusCode::kCancelled:
      return request.cancelled ? absl::OkStatus() : absl::InternalError("its sender never cancelled it");
    case absl::StatusCode::kNotFound:
      // A router that the controller cannot reach knows old names only: that is checked there (RouterNode).
      return reply != nullptr && !reply->executor.empty() && known_since(request.model, request.submitted)
                 ? absl::InternalError("its model was there all the time")
                 : absl::OkStatus();
    case absl::StatusCode::kResourceExhausted:
      return absl::OkStatus();
    default:
      return absl::InternalError("no fault that was made explains this status");
  }
}

}  // namespace cenote::simulate
