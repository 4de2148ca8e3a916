#include "simulate/operator_node.h"

#include <algorithm>

#include "base/status.h"
#include "base/text.h"
#include "catalog/names.h"
#include "simulate/controller_node.h"
#include "simulate/memory_node.h"

namespace cenote::simulate {
namespace {

constexpr uint64_t kSlabBytes = 8 * kMiB;
constexpr Duration kWriteTimeout = Duration::from_seconds(4);
constexpr Duration kCallTimeout = Duration::from_seconds(5);
constexpr Duration kCommitTimeout = Duration::from_seconds(8);
constexpr Duration kSlabPatience = Duration::from_seconds(6);

}  // namespace

template <typename Result, typename Ask>
void OperatorNode::ask(Ask event, Duration timeout, std::function<void(Result)> done) {
  network().call<Result>(
      *this, controller_, 512, timeout,
      [event, timeout](Process& taker, const Network::Answer<Result>& answer) mutable {
        // What is left of the budget when it comes there.
        if constexpr (requires { event.deadline; }) event.deadline = taker.world().now() + (timeout - Duration::from_ms(50));
        static_cast<ControllerNode&>(taker).ask<Ask, Result>(event, answer);
      },
      std::move(done));
}

void OperatorNode::add(std::function<void()> job) {
  jobs_.push_back(std::move(job));
  next();
}

void OperatorNode::next() {
  if (busy_ || jobs_.empty()) return;
  busy_ = true;
  const std::function<void()> job = std::move(jobs_.front());
  jobs_.pop_front();
  job();
}

void OperatorNode::over(const std::string& what, const absl::Status& status) {
  world().say(name(), ": ", what, ": ", status.ok() ? "ok" : std::string(status.message()));
  world().note(static_cast<uint64_t>(status.code()));
  busy_ = false;
  network().later(*this, world().draw(Duration::from_ms(5), Duration::from_ms(300)), [this] { next(); });
}

void OperatorNode::note(const std::string& name, const std::string& tag, const Digest& revision) { acknowledged_[{name, tag}] = revision; }

// A call that was not answered may still come about, at any time.
void OperatorNode::doubt(const std::string& name, const absl::Status& status) {
  if (absl::IsUnavailable(status) || absl::IsDeadlineExceeded(status)) doubtful_.insert(name);
}

// ---- deploy ----------------------------------------------------------------------------------------------------------------
void OperatorNode::deploy(RevisionRecord record, std::string tag, bool update) {
  add([this, record = std::move(record), tag = std::move(tag), update] {
    const auto deploy = std::make_shared<Deploy>(Deploy{.record = record, .tag = tag, .blocks = distinct_blocks(record)});
    truth_.add_model(record);
    DeployRequest request{.name = record.name, .tag = tag, .update = update, .blocks = deploy->blocks, .client = name()};
    for (const BlockRef& block : deploy->blocks) request.cache_bytes += round_up(block.size_bytes, kBlockAlignBytes);
    ask<absl::StatusOr<DeployPlan>>(node::BeginAsked{.request = std::move(request)}, kCallTimeout,
                                    [this, deploy](const absl::StatusOr<DeployPlan>& plan) { begun(deploy, plan); });
  });
}

void OperatorNode::begun(const DeployRef& deploy, const absl::StatusOr<DeployPlan>& plan) {
  if (!plan.ok()) return over(str_cat("deploy of ", deploy->record.name), plan.status());
  deploy->plan = *plan;
  std::map<std::string, Share> shares;
  for (const BlockTargets& targets : plan->send) {
    for (const std::string& server : targets.servers) {
      Share& share = shares[server];
      if (share == nullptr) share = std::make_shared<std::deque<BlockRef>>();
      share->push_back(deploy->blocks.at(targets.block));
    }
  }
  deploy->shares = shares.size();
  if (shares.empty()) return commit(deploy);
  renew(deploy);
  for (const auto& [server, share] : shares) send(deploy, server, share, world().now() + kSlabPatience);
}

void OperatorNode::renew(const DeployRef& deploy) {
  network().later(*this, Duration{deploy->plan.lease.ns / 3}, [this, deploy] {
    if (deploy->shares == 0) return;
    ask<absl::Status>(node::RenewAsked{.deploy = deploy->plan.deploy}, Duration{deploy->plan.lease.ns / 3}, [](const absl::Status&) {});
    renew(deploy);
  });
}

// One slab after another until nothing is left.
void OperatorNode::send(const DeployRef& deploy, const std::string& server, const Share& left, Instant patience) {
  if (left->empty() || !deploy->status.ok()) return shared(deploy, absl::OkStatus());
  std::vector<SealRange> ranges;
  uint64_t size = 0;
  for (const BlockRef& block : *left) {
    const uint64_t offset = round_up(size, kBlockAlignBytes);
    if (offset + block.size_bytes > kSlabBytes) break;
    ranges.push_back({offset, block});
    size = offset + block.size_bytes;
  }
  using Result = absl::StatusOr<SlabInfo>;
  network().call<Result>(
      *this, network().find(server), 128, kCallTimeout,
      [size, writer = name()](Process& taker, const Network::Answer<Result>& answer) { static_cast<MemoryNode&>(taker).open(size, writer, answer); },
      [this, deploy, server, left, ranges, patience](const Result& slab) {
        if (slab.ok()) return write(deploy, server, left, *slab, ranges);
        if (!absl::IsResourceExhausted(slab.status()) || world().now() > patience) return shared(deploy, slab.status());
        network().later(*this, Duration::from_ms(100), [this, deploy, server, left, patience] { send(deploy, server, left, patience); });
      });
}

void OperatorNode::write(const DeployRef& deploy, const std::string& server, const Share& left, const SlabInfo& slab, const std::vector<SealRange>& ranges) {
  using Result = absl::Status;
  network().call<Result>(
      *this, network().find(server), slab.size_bytes, kWriteTimeout,
      [slab, ranges](Process& taker, const Network::Answer<Result>& answer) {
        absl::Status status;
        for (const SealRange& range : ranges) {
          std::vector<Chunk> chunks;
          for (uint32_t i = 0; i < chunk_count(range.block.size_bytes); ++i) {
            chunks.push_back({range.block.id, i, chunk_size(range.block.size_bytes, i), taker.world().draw(1000) < taker.network().corrupt_per_mille});
          }
          if (status.ok()) status = static_cast<MemoryNode&>(taker).write(slab.region_key, range.offset_bytes, chunks);
        }
        answer(status, 64);
      },
      [this, deploy, server, left, slab, ranges](const Result& status) {
        if (status.ok()) return seal(deploy, server, left, slab, ranges);
        network().call<absl::Status>(
            *this, network().find(server), 64, kCallTimeout,
            [slab](Process& taker, const Network::Answer<absl::Status>& answer) { static_cast<MemoryNode&>(taker).abandon(slab.slab, slab.incarnation, answer); },
            [](const absl::Status&) {});
        shared(deploy, status);
      });
}

void OperatorNode::seal(const DeployRef& deploy, const std::string& server, const Share& left, const SlabInfo& slab, const std::vector<SealRange>& ranges) {
  using Result = absl::StatusOr<SealResult>;
  network().call<Result>(
      *this, network().find(server), 1024, kCallTimeout,
      [slab, ranges](Process& taker, const Network::Answer<Result>& answer) { static_cast<MemoryNode&>(taker).seal(slab.slab, slab.incarnation, ranges, answer); },
      [this, deploy, server, left, count = ranges.size()](const Result& sealed) {
        if (!sealed.ok()) return shared(deploy, sealed.status());
        left->erase(left->begin(), left->begin() + static_cast<ptrdiff_t>(count));
        send(deploy, server, left, world().now() + kSlabPatience);
      });
}

void OperatorNode::shared(const DeployRef& deploy, const absl::Status& status) {
  if (deploy->status.ok()) deploy->status = status;
  if (--deploy->shares == 0) commit(deploy);
}

void OperatorNode::commit(const DeployRef& deploy) {
  if (!deploy->status.ok()) {
    ask<absl::Status>(node::AbortAsked{.deploy = deploy->plan.deploy}, kCallTimeout, [](const absl::Status&) {});
    return over(str_cat("deploy of ", deploy->record.name), deploy->status);
  }
  ask<absl::StatusOr<DeployResult>>(node::CommitAsked{.deploy = deploy->plan.deploy, .record = deploy->record}, kCommitTimeout,
                                    [this, deploy](const absl::StatusOr<DeployResult>& result) { committed(deploy, result); });
}

void OperatorNode::committed(const DeployRef& deploy, const absl::StatusOr<DeployResult>& result) {
  if (result.ok()) note(result->name, result->tag, result->digest);
  doubt(deploy->record.name, result.status());
  over(str_cat("deploy of ", deploy->record.name, " ", deploy->record.digest.short_hex()), result.status());
}

// ---- names -----------------------------------------------------------------------------------------------------------------
void OperatorNode::moved(const std::string& what, const std::string& name, const absl::StatusOr<TagMove>& move) {
  if (move.ok()) note(move->name, move->tag, move->revision);
  doubt(name, move.status());
  over(what, move.status());
}

void OperatorNode::publish(std::string model, std::string tag) {
  add([this, model = std::move(model), tag = std::move(tag)] {
    ask<absl::StatusOr<TagMove>>(node::PublishAsked{.model = model, .tag = tag}, kCallTimeout, [this, model](const absl::StatusOr<TagMove>& move) {
      moved(str_cat("publish ", model), model.substr(0, model.find_first_of(":@")), move);
    });
  });
}

void OperatorNode::rollback(std::string model) {
  add([this, model = std::move(model)] {
    ask<absl::StatusOr<TagMove>>(node::RollbackAsked{.model = model}, kCallTimeout, [this, model](const absl::StatusOr<TagMove>& move) {
      moved(str_cat("rollback ", model), model.substr(0, model.find_first_of(":@")), move);
    });
  });
}

void OperatorNode::remove(std::string model) {
  add([this, model = std::move(model)] {
    ask<absl::StatusOr<Removal>>(node::RemoveAsked{.model = model}, kCallTimeout, [this, model](const absl::StatusOr<Removal>& removal) {
      if (removal.ok()) {
        std::erase_if(acknowledged_, [&](const auto& entry) { return entry.first.first == model; });
        note(model, std::string(kDefaultTag), Digest{});
      }
      doubt(model, removal.status());
      over(str_cat("remove ", model), removal.status());
    });
  });
}

void OperatorNode::evict(std::string model) {
  add([this, model = std::move(model)] {
    ask<absl::Status>(node::EvictAsked{.model = model}, kCallTimeout, [this, model](const absl::Status& status) { over(str_cat("evict ", model), status); });
  });
}

void OperatorNode::drain(std::string member) {
  add([this, member = std::move(member)] {
    ask<absl::Status>(node::MemberDrainAsked{.member = member}, kCallTimeout, [this, member](const absl::Status& status) { over(str_cat("drain ", member), status); });
  });
}

}  // namespace cenote::simulate
