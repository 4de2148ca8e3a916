// Which catalogue this is, and how one that was lost or put back is kept from having blocks dropped that it does not know.
#include <algorithm>
#include <utility>

#include "base/status.h"
#include "base/units.h"
#include "catalog/catalogue_plans.h"
#include "catalog/label.h"
#include "node/controller.h"

namespace cenote::node {

// The first event of a catalogue. A store that refuses it is asked again.
void Controller::begin_lineage(Actions& actions) {
  if (catalogue_.lineage() != 0 || lineage_asked_ || now_ < lineage_at_) return;
  lineage_asked_ = true;
  change({.plan =
              [this]() -> absl::StatusOr<Events> {
                if (catalogue_.lineage() != 0) return Events();
                return Events{LineageSet{options_.fresh_lineage, ""}};
              },
          .done =
              [this](const absl::Status& status, Actions&) {
                lineage_asked_ = status.ok();
                lineage_at_ = now_ + kInventoryRetry;
              },
          .checked = true},
         actions);
}

bool Controller::needed(const Digest& block) const {
  if (catalogue_.references(block) > 0) return true;
  return std::any_of(deploys_.begin(), deploys_.end(), [&](const auto& deploy) { return deploy.second.blocks.contains(block); });
}

// At the turn of a server's inventory: whether what it holds came under this catalogue. If not, and something of it is not needed here,
// the hold becomes part of the inventory's own batch.
void Controller::judge_lineage(Member& member, const std::map<Digest, std::optional<uint32_t>>& held, Events& events) {
  if (member.lineage_known) return;  // What came since came under this one.
  member.lineage_judged = true;
  const MemberReport& report = member.report;
  const bool ours = report.lineage == catalogue_.lineage() && report.lineage_sequence <= sequence_;
  const bool older_put_back = report.lineage == catalogue_.lineage() && !ours;
  const auto strange = std::find_if(held.begin(), held.end(), [this](const auto& block) { return block.second && !needed(block.first); });
  if (!older_put_back && (ours || strange == held.end() || !catalogue_.held_because().empty())) return;
  const std::string what = older_put_back ? str_cat("the catalogue is an older one put back: it has ", sequence_, " events, ", report.name, " was told of ", report.lineage_sequence)
                                          : str_cat(report.name, " holds blocks that came under another catalogue and that this one does not know");
  events.emplace_back(LineageSet{older_put_back ? options_.fresh_lineage : catalogue_.lineage(), what});
}

// Fills the part that a server shall remember.
void Controller::tell_lineage(Member& member, MemoryDirective& directive) const {
  if (!member.lineage_known) return;
  directive.lineage = member.told_lineage = catalogue_.lineage();
  directive.lineage_sequence = member.told_sequence = sequence_;
}

// What it holds is known, and it said that it knows of this catalogue: before that it opens no slabs.
bool Controller::takes_blocks(const Member& member) const {
  return member.report.role == Role::kMemory && member.inventoried && member.lineage_known && member.report.lineage == catalogue_.lineage();
}

void Controller::handle(Instant, const UnclaimedAsked& e, Actions& actions) {
  Unclaimed found{.held_because = catalogue_.held_because()};
  std::set<std::string> servers;
  for (const std::string& name : options_.expected) {
    if (!options_.agent_devices.contains(name)) servers.insert(name);
  }
  for (const auto& [id, state] : catalogue_.blocks()) {
    servers.insert(state.servers.begin(), state.servers.end());
    if (needed(id) || live_replicas(id) == 0) continue;
    ++found.blocks;
    found.bytes += state.size_bytes;
    if (state.size_bytes == kLabelBytes) found.labels.push_back({id, state.size_bytes});
  }
  for (const std::string& name : servers) {
    if (!holds_live(name)) found.absent.push_back(name);
  }
  actions.emplace_back(UnclaimedReply{e.call, std::move(found)});
}

// As a deploy whose blocks are all there. The tag "latest" follows where this is the newest revision of its name.
void Controller::handle(Instant, const AdoptAsked& e, Actions& actions) {
  const RevisionRecord& record = e.record;
  absl::Status status = absl::OkStatus();
  if (catalogue_.held_because().empty()) {
    status = absl::FailedPreconditionError("revisions are adopted only while drops are held, lest their blocks be dropped meanwhile: hold them first (cenote rebuild does)");
  }
  for (const BlockRef& block : distinct_blocks(record)) {
    if (!status.ok()) break;
    if (live_replicas(block.id) == 0) status = absl::NotFoundError(str_cat(record.name, "@", record.digest.short_hex(), ": no live memory server holds its block ", block.id.short_hex()));
  }
  if (!status.ok()) {
    actions.emplace_back(CommitReply{e.call, std::move(status)});
    return;
  }
  auto result = std::make_shared<DeployResult>(DeployResult{.digest = record.digest, .name = record.name, .tag = std::string(kDefaultTag)});
  change({.plan = [this, record, result]() -> absl::StatusOr<Events> {
            CENOTE_ASSIGN_OR_RETURN(Events events, plan_deploy(catalogue_, record, kDefaultTag, true));
            result->already_existed = events.empty() || !std::holds_alternative<RevisionSealed>(events.front());
            const TagState* latest = catalogue_.tag(record.name, kDefaultTag);
            if (latest != nullptr && catalogue_.revisions().at(latest->revision).names.at(record.name) >= record.created_us) {
              std::erase_if(events, [](const CatalogueEvent& event) { return std::holds_alternative<TagMoved>(event); });
              result->tag.clear();
            }
            return events;
          },
          .done =
              [this, call = e.call, result](const absl::Status& status, Actions& actions) {
                if (!status.ok()) {
                  actions.emplace_back(CommitReply{call, status});
                  return;
                }
                actions.emplace_back(Say{false, str_cat("adopted ", result->name, "@", result->digest.short_hex(), " from the pool")});
                actions.emplace_back(CommitReply{call, *result});
              }},
         actions);
}

void Controller::handle(Instant, const HoldDropsAsked& e, Actions& actions) {
  change({.plan = [this, hold = e.hold]() -> absl::StatusOr<Events> {
            if (catalogue_.lineage() == 0) return absl::UnavailableError("the catalogue has not begun yet; try again in a moment");
            if (hold == !catalogue_.held_because().empty()) return Events();
            return Events{LineageSet{catalogue_.lineage(), hold ? "an operator asked for it" : ""}};
          },
          .done =
              [call = e.call, hold = e.hold](const absl::Status& status, Actions& actions) {
                if (status.ok()) actions.emplace_back(Say{false, hold ? "memory servers keep what no revision needs" : "what no revision needs is dropped again"});
                actions.emplace_back(DoneReply{call, status});
              }},
         actions);
}

}  // namespace cenote::node
