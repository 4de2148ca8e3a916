// Members that fall silent: suspected at once (agents ask others first, status says so), lost only after member_timeout. Suspicion moves no
// block and changes no assignment.
#include "base/status.h"
#include "node/controller.h"

namespace cenote::node {

// While the controller itself stood still, nobody could be heard: their times go on where they were.
void Controller::awake(Instant now) {
  const Duration late = silence_.awake(now);
  if (late < Suspicion<std::string>::kStallMin) return;
  for (auto& [name, member] : members_) member.last_seen = member.last_seen + late;
  for (auto& [number, deploy] : deploys_) deploy.expires = deploy.expires + late;
  for (auto& [name, gone] : gone_) gone.since = gone.since + late;
}

void Controller::handle(Instant now, const MemberBeat& e, Actions& actions) {
  const auto stream = streams_.find(e.stream);
  if (stream == streams_.end()) return;  // Its first report is on the way.
  Member& member = members_.at(stream->second);
  if (member.stream != e.stream) return;
  silence_.expect(now, stream->second, e.next);
  if (silence_.heard(now, stream->second, e.next)) {
    ++suspects_version_;
    actions.emplace_back(Say{false, str_cat(role_name(member.report.role), " ", stream->second, " speaks again")});
  }
  tell(now, member, Heartbeat{}, actions);
}

void Controller::hear(Instant now, const std::string& name, Actions& actions) {
  if (!silence_.heard(now, name)) return;
  ++suspects_version_;
  actions.emplace_back(Say{false, str_cat(role_name(members_.at(name).report.role), " ", name, " speaks again")});
}

// A dead process resets its connection: nothing need be waited for. A broken connection alone is mended within a second.
void Controller::disconnected(const std::string& name, Actions& actions) {
  silence_.settle(name);
  if (!silence_.suspected(name)) suspect(name, "closed its connection", actions);
  silence_.suspect(name);
}

void Controller::suspect(const std::string& name, const char* why, Actions& actions) {
  ++suspects_version_;
  ++suspected_;
  actions.emplace_back(Say{true, str_cat(role_name(members_.at(name).report.role), " ", name, " ", why, "; others are asked until it speaks again")});
}

void Controller::notice(Instant now, Actions& actions) {
  for (const std::string& name : silence_.step(now)) suspect(name, "is silent", actions);
  std::optional<Suspects> suspects;
  for (auto& [name, member] : members_) {
    if (member.stream == 0 || member.report.role != Role::kAgent || member.suspects_told == suspects_version_) continue;
    if (!suspects) {
      suspects.emplace();
      for (const auto& [other, state] : members_) {
        if (silence_.suspected(other) || excluded(other)) suspects->names.push_back(other);
      }
    }
    member.suspects_told = suspects_version_;
    tell(now, member, *suspects, actions);
  }
}

}  // namespace cenote::node
