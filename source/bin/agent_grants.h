// bin/agent_grants.h - asks memory servers for read grants on the fetcher's behalf: one client per server, made when first needed.
// Thread-safe; set() from the role's thread, ask() from the fetcher's.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "message/record.h"
#include "wire/memory_client.h"

namespace cenote {

class AgentGrants {
 public:
  // `answer` gets each ask's outcome, on any thread.
  using Answer = std::function<void(std::string server, Instant sent_at, absl::StatusOr<Grant>)>;
  AgentGrants(wire::Identity identity, std::string holder, Duration timeout, Answer answer)
      : identity_(std::move(identity)), holder_(std::move(holder)), timeout_(timeout), answer_(std::move(answer)) {}

  void set(const std::vector<MemoryServerInfo>& servers) {
    std::vector<std::shared_ptr<wire::MemoryClient>> ended;  // Outside the lock: their calls answer.
    const std::lock_guard lock(mutex_);
    std::map<std::string, std::string> addresses;
    for (const MemoryServerInfo& server : servers) addresses[server.name] = server.control_address;
    for (auto client = clients_.begin(); client != clients_.end();) {
      const auto address = addresses.find(client->first);
      if (address != addresses.end() && address->second == addresses_[client->first]) {
        ++client;
      } else {
        ended.push_back(std::move(client->second));
        client = clients_.erase(client);
      }
    }
    addresses_ = std::move(addresses);
  }

  void ask(const std::string& server, std::vector<Digest> blocks) {
    std::shared_ptr<wire::MemoryClient> client;
    {
      const std::lock_guard lock(mutex_);
      const auto address = addresses_.find(server);
      if (address != addresses_.end()) {
        std::shared_ptr<wire::MemoryClient>& known = clients_[server];
        if (known == nullptr) known = wire::MemoryClient::open(address->second, identity_);
        client = known;
      }
    }
    const Instant sent_at = monotonic_now();
    if (client == nullptr) return answer_(server, sent_at, absl::UnavailableError("it is not among the live memory servers"));
    client->grant(std::move(blocks), holder_, timeout_,
                  [this, server, sent_at](absl::StatusOr<Grant> grant) { answer_(server, sent_at, std::move(grant)); });
  }

  // Every call under way is answered when it returns.
  void end() { set({}); }

 private:
  const wire::Identity identity_;
  const std::string holder_;
  const Duration timeout_;
  const Answer answer_;
  std::mutex mutex_;
  std::map<std::string, std::string> addresses_;
  std::map<std::string, std::shared_ptr<wire::MemoryClient>> clients_;
};

}  // namespace cenote
