// Deploys: begin (where to write), renew, commit (when the servers have said that they hold it), abort.
#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "base/status.h"
#include "base/text.h"
#include "base/units.h"
#include "catalog/catalogue_plans.h"
#include "node/controller.h"

namespace cenote::node {
namespace {

// FNV-1a (Fowler, Noll, Vo), 32 bits.
uint32_t spread(std::string_view text) {
  uint32_t hash = 2166136261u;
  for (const char c : text) hash = (hash ^ static_cast<uint8_t>(c)) * 16777619u;
  return hash;
}

absl::Status no_such_deploy(uint64_t deploy) {
  return absl::NotFoundError(str_cat("deploy ", deploy, " is not known: it expired, ended, or the controller restarted; deploy again"));
}

std::string tag_or_default(const std::string& tag) { return tag.empty() ? std::string(kDefaultTag) : tag; }

Digest asked_of(const DeployRequest& request) {
  Sha256 hash;
  for (const std::string& part : {std::string("deploy"), request.name, tag_or_default(request.tag)}) hash.update(as_bytes(str_cat(part, "\n")));
  return hash.finish();
}

DeployResult result_of(const OperationDone& done) { return {.digest = done.revision, .name = done.name, .tag = done.tag, .already_existed = done.nothing_new}; }

}  // namespace

absl::Status Controller::check_begin(const DeployRequest& request, const Caller& caller) const {
  CENOTE_RETURN_IF_ERROR(check_model_name(request.name));
  CENOTE_RETURN_IF_ERROR(check_owner(caller, request.name, "deploy"));
  CENOTE_RETURN_IF_ERROR(check_tag(tag_or_default(request.tag)));
  if (request.blocks.empty()) return absl::InvalidArgumentError(str_cat("deploy of ", request.name, ": no blocks"));
  std::set<Digest> seen;
  for (const BlockRef& block : request.blocks) {
    if (block.size_bytes == 0 || block.size_bytes > kBlockBytesMax || !seen.insert(block.id).second) {
      return absl::InvalidArgumentError(str_cat("deploy of ", request.name, ": block ", block.id.short_hex(), " of ", block.size_bytes,
                                                " bytes: must be named once, with 1 to ", kBlockBytesMax, " bytes"));
    }
  }
  if (!request.update) {
    const std::vector<std::string> names = catalogue_.names();
    if (std::find(names.begin(), names.end(), request.name) != names.end()) {
      return absl::AlreadyExistsError(str_cat("a model named ", request.name, " exists; deploy with --update to add a revision, or under another name"));
    }
  }
  if (deploys_.size() + waiting_begins_.size() >= kDeploysMax) {
    return absl::ResourceExhaustedError(str_cat(kDeploysMax, " deploys are under way, the limit; try again when one has ended"));
  }
  CENOTE_RETURN_IF_ERROR(check_limits(tenant_of(caller, request.name), request.name, request.blocks, 0));
  return check_caches(request);
}

// Whether the settings let a device of `agent` serve models of this name.
bool Controller::may_serve(const std::string& agent, const std::string& model) const {
  const auto devices = options_.agent_devices.find(agent);
  if (devices == options_.agent_devices.end()) return true;
  return std::any_of(devices->second.begin(), devices->second.end(), [&](const std::string& device) {
    const auto models = options_.device_models.find(str_cat(agent, "/", device));
    return models == options_.device_models.end() || models->second.empty() || std::find(models->second.begin(), models->second.end(), model) != models->second.end();
  });
}

// No host could ever serve what no cache can hold. An agent that was never heard of may have a larger cache: then nobody knows.
absl::Status Controller::check_caches(const DeployRequest& request) const {
  std::map<std::string, uint64_t> caches;
  for (const auto& [agent, devices] : options_.agent_devices) caches.emplace(agent, 0);
  for (const auto& [name, report] : lost_) {
    if (report.role == Role::kAgent) caches[name] = report.cache_capacity_bytes;
  }
  for (const auto& [name, member] : members_) {
    if (member.report.role == Role::kAgent) caches[name] = member.report.cache_capacity_bytes;
  }
  std::erase_if(caches, [&](const auto& cache) { return !may_serve(cache.first, request.name); });
  const bool known = !caches.empty() && std::none_of(caches.begin(), caches.end(), [](const auto& cache) { return cache.second == 0; });
  if (!known) return absl::OkStatus();
  const auto largest = std::max_element(caches.begin(), caches.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  if (request.cache_bytes <= largest->second) return absl::OkStatus();
  return absl::ResourceExhaustedError(str_cat("deploy of ", request.name, ": its weights and manifest need ", format_bytes(request.cache_bytes), " of a host's cache, the largest that may serve it is ",
                                              largest->first, "'s of ", format_bytes(largest->second), "; raise agent.cache_capacity in the settings and start the cluster anew, or deploy a smaller model"));
}

bool Controller::being_dropped(const DeployRequest& request) const {
  for (const auto& [name, member] : members_) {
    if (member.dropping.empty()) continue;
    for (const BlockRef& block : request.blocks) {
      if (member.dropping.contains(block.id)) return true;
    }
  }
  return false;
}

void Controller::handle(Instant now, const BeginAsked& e, Actions& actions) {
  const absl::StatusOr<const OperationDone*> done = answered(e.request.operation, asked_of(e.request));
  if (!done.ok()) {
    actions.emplace_back(PlanReply{e.call, done.status()});
  } else if (*done != nullptr) {
    actions.emplace_back(PlanReply{e.call, DeployPlan{.done = result_of(**done)}});
  } else if (const absl::Status status = check_begin(e.request, e.caller); !status.ok()) {
    actions.emplace_back(PlanReply{e.call, status});
  } else if (!settled_ || being_dropped(e.request)) {
    waiting_begins_.push_back(e);
  } else {
    actions.emplace_back(PlanReply{e.call, begin(now, e.request, e.caller)});
  }
}

absl::StatusOr<DeployPlan> Controller::begin(Instant now, const DeployRequest& request, const Caller& caller) {
  CENOTE_RETURN_IF_ERROR(check_begin(request, caller));  // Again: it may have waited.
  std::vector<PlaceServer> servers;
  std::map<std::string, uint32_t> index;
  for (const auto& [name, member] : members_) {
    if (!takes_blocks(member) || member.stream == 0 || member.report.draining || leaving_.contains(name) || excluded(name)) continue;
    const MemoryServerInfo& memory = member.report.memory;
    const auto domain = options_.failure_domains.find(name);
    index.emplace(name, static_cast<uint32_t>(servers.size()));
    servers.push_back({.name = name,
                       .free_bytes = memory.capacity_bytes - std::min(memory.capacity_bytes, memory.used_bytes),
                       .failure_domain = domain == options_.failure_domains.end() ? std::string() : domain->second});
  }
  // What other deploys were promised and have not written yet is not free.
  for (const auto& [number, deploy] : deploys_) {
    for (const auto& [block, server] : deploy.planned) {
      const auto at = index.find(server);
      const auto state = catalogue_.blocks().find(block.id);
      if (at == index.end() || (state != catalogue_.blocks().end() && state->second.servers.contains(server))) continue;
      uint64_t& free = servers[at->second].free_bytes;
      free -= std::min(free, round_up(block.size_bytes, kBlockAlignBytes));
    }
  }
  std::vector<PlaceBlock> blocks;
  for (const BlockRef& block : request.blocks) {
    PlaceBlock place{.size_bytes = block.size_bytes};
    for (const std::string& server : catalogue_.replicas(block.id)) {
      if (const auto at = index.find(server); at != index.end()) place.held_by.push_back(at->second);
    }
    blocks.push_back(std::move(place));
  }
  CENOTE_ASSIGN_OR_RETURN(const auto targets, place_blocks(blocks, servers,
                                                           {.policy = options_.placement, .replicas = options_.replicas, .group_bytes = options_.group_bytes, .rotation = spread(request.name)}));
  Deploy deploy{.request = request, .tenant = tenant_of(caller, request.name), .expires = now + options_.deploy_lease};
  DeployPlan plan{.deploy = next_deploy_++, .lease = options_.deploy_lease};
  std::set<uint32_t> used;
  for (size_t i = 0; i < targets.size(); ++i) {
    deploy.blocks.insert(request.blocks[i].id);
    if (targets[i].empty()) continue;
    BlockTargets send{.block = static_cast<uint32_t>(i)};
    for (const uint32_t server : targets[i]) {
      send.servers.push_back(servers[server].name);
      deploy.planned.emplace_back(request.blocks[i], servers[server].name);
      used.insert(server);
    }
    plan.send.push_back(std::move(send));
  }
  for (const uint32_t server : used) plan.servers.push_back(members_.at(servers[server].name).report.memory);
  deploys_.emplace(plan.deploy, std::move(deploy));
  return plan;
}

void Controller::handle(Instant now, const RenewAsked& e, Actions& actions) {
  const auto deploy = deploys_.find(e.deploy);
  if (deploy == deploys_.end()) {
    actions.emplace_back(DoneReply{e.call, no_such_deploy(e.deploy)});
    return;
  }
  if (const absl::Status status = check_deploy_owner(e.caller, e.deploy, deploy->second); !status.ok()) {
    actions.emplace_back(DoneReply{e.call, status});
    return;
  }
  deploy->second.expires = now + options_.deploy_lease;
  actions.emplace_back(DoneReply{e.call, absl::OkStatus()});
}

void Controller::handle(Instant, const AbortAsked& e, Actions& actions) {
  const auto deploy = deploys_.find(e.deploy);
  if (const absl::Status status = deploy == deploys_.end() ? absl::OkStatus() : check_deploy_owner(e.caller, e.deploy, deploy->second); !status.ok()) {
    actions.emplace_back(DoneReply{e.call, status});
    return;
  }
  if (deploy != deploys_.end() && deploy->second.committing) {
    actions.emplace_back(DoneReply{e.call, absl::FailedPreconditionError(str_cat("deploy ", e.deploy, " is being committed"))});
    return;
  }
  if (deploy != deploys_.end()) deploys_.erase(deploy);
  garbage_dirty_ = true;
  actions.emplace_back(DoneReply{e.call, absl::OkStatus()});  // Also of one that is gone: it is aborted.
}

absl::Status Controller::check_commit(const Deploy& deploy, const RevisionRecord& record) const {
  const auto bad = [&](const auto&... what) { return absl::InvalidArgumentError(str_cat("commit of ", deploy.request.name, ": ", what...)); };
  if (record.digest.empty()) return bad("the record has no digest");
  if (record.name != deploy.request.name) return bad("the record's name is ", record.name);
  if (record.manifest_blocks.empty()) return bad("the record names no manifest blocks");
  std::map<Digest, uint32_t> begun;
  for (const BlockRef& block : deploy.request.blocks) begun.emplace(block.id, block.size_bytes);
  for (const BlockRef& block : distinct_blocks(record)) {
    const auto found = begun.find(block.id);
    if (found == begun.end() || found->second != block.size_bytes) return bad("block ", block.id.short_hex(), " of ", block.size_bytes, " bytes was not named when the deploy began");
  }
  uint64_t weights = 0, manifest = 0;
  for (const BlockRef& block : record.blocks) weights += block.size_bytes;
  for (const BlockRef& block : record.manifest_blocks) manifest += block.size_bytes;
  if (weights != record.weight_bytes) return bad("weight_bytes is ", record.weight_bytes, ", the blocks have ", weights);
  if (manifest != record.manifest_bytes) return bad("manifest_bytes is ", record.manifest_bytes, ", its blocks have ", manifest);
  return absl::OkStatus();
}

void Controller::handle(Instant, const CommitAsked& e, Actions& actions) {
  if (const OperationDone* done = e.operation.empty() ? nullptr : catalogue_.operation(e.operation); done != nullptr && done->revision == e.record.digest) {
    actions.emplace_back(CommitReply{e.call, result_of(*done)});  // Its deploy ended with the first try.
    return;
  }
  const auto deploy = deploys_.find(e.deploy);
  absl::Status status = deploy == deploys_.end() ? no_such_deploy(e.deploy) : check_deploy_owner(e.caller, e.deploy, deploy->second);
  if (status.ok()) status = check_commit(deploy->second, e.record);
  if (status.ok() && deploy->second.committing) status = absl::FailedPreconditionError(str_cat("deploy ", e.deploy, " is being committed already"));
  if (!status.ok()) {
    actions.emplace_back(CommitReply{e.call, std::move(status)});
    return;
  }
  deploy->second.committing = true;
  waiting_commits_.push_back(e);
}

// Begins that waited for drops, commits that waited for replicas.
void Controller::check_waiting(Instant now, Actions& actions) {
  for (std::deque<BeginAsked> begins = std::exchange(waiting_begins_, {}); BeginAsked& ask : begins) {
    if (settled_ && !being_dropped(ask.request)) {
      actions.emplace_back(PlanReply{ask.call, begin(now, ask.request, ask.caller)});
    } else if (ask.deadline <= now) {
      actions.emplace_back(PlanReply{ask.call, absl::DeadlineExceededError(str_cat("deploy of ", ask.request.name, settled_ ? ": some of its blocks are still being dropped" : ": the controller started just now and waits for its members", "; try again in a moment"))});
    } else {
      waiting_begins_.push_back(std::move(ask));
    }
  }
  for (std::deque<CommitAsked> commits = std::exchange(waiting_commits_, {}); CommitAsked& ask : commits) {
    const std::vector<BlockRef> blocks = distinct_blocks(ask.record);
    const auto missing = std::find_if(blocks.begin(), blocks.end(), [this](const BlockRef& block) { return live_replicas(block.id) == 0; });
    if (missing == blocks.end()) {
      commit(std::move(ask), actions);
    } else if (ask.deadline <= now || !replicas_unwritable_.ok()) {  // What servers report is not counted before it is stored.
      Deploy& deploy = deploys_.at(ask.deploy);
      deploy.committing = false;
      deploy.expires = now + options_.deploy_lease;  // The client may send what is missing and commit again.
      if (!replicas_unwritable_.ok()) {
        actions.emplace_back(CommitReply{ask.call, replicas_unwritable_});
        continue;
      }
      actions.emplace_back(CommitReply{ask.call, absl::DeadlineExceededError(str_cat("commit of ", ask.record.name, ": no live memory server has reported block ", missing->id.short_hex(),
                                                                                     "; send it again and commit again"))});
    } else {
      waiting_commits_.push_back(std::move(ask));
    }
  }
}

void Controller::commit(CommitAsked ask, Actions& actions) {
  const DeployRequest& request = deploys_.at(ask.deploy).request;
  // Shared by both steps: whether there was anything to do is known at its turn.
  auto result = std::make_shared<DeployResult>(DeployResult{.digest = ask.record.digest, .name = ask.record.name, .tag = tag_or_default(request.tag)});
  auto shared = std::make_shared<const RevisionRecord>(std::move(ask.record));
  change({.plan = [this, deploy = ask.deploy, tenant = deploys_.at(ask.deploy).tenant, shared, result, update = request.update, operation = ask.operation, asked = asked_of(request)]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(const OperationDone* done, answered(operation, asked));
            if (done != nullptr) {
              *result = result_of(*done);
              return Events();
            }
            CENOTE_ASSIGN_OR_RETURN(Events events, plan_deploy(catalogue_, *shared, result->tag, update));
            result->already_existed = events.empty();
            // Again: others have begun and ended since this began.
            const Caller as{.role = CallerRole::kDeployer, .subject = "this deploy", .tenant = tenant};
            if (tenant_of(as, shared->name) != tenant) CENOTE_RETURN_IF_ERROR(check_owner(as, shared->name, "deploy"));
            CENOTE_RETURN_IF_ERROR(check_limits(tenant, shared->name, distinct_blocks(*shared), deploy));
            add_owner(tenant, shared->name, events);
            for (CatalogueEvent& event : want_again(shared->digest)) events.push_back(std::move(event));
            if (!events.empty() && !operation.empty()) {
              events.emplace_back(OperationDone{.id = operation, .request = asked, .name = result->name, .tag = result->tag, .revision = result->digest, .nothing_new = result->already_existed});
            }
            return events;
          },
          .done =
              [this, call = ask.call, deploy = ask.deploy, result](const absl::Status& status, Actions& actions) {
                deploys_.erase(deploy);
                garbage_dirty_ = true;
                if (!status.ok()) {
                  actions.emplace_back(CommitReply{call, status});
                  return;
                }
                actions.emplace_back(Say{false, str_cat("deployed ", result->name, ":", result->tag, " -> ", result->digest.short_hex())});
                actions.emplace_back(CommitReply{call, *result});
              }},
         actions);
}

}  // namespace cenote::node
