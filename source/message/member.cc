#include "message/member.h"

namespace cenote {

std::string_view role_name(Role role) {
  switch (role) {
    case Role::kMemory: return "memory";
    case Role::kAgent: return "agent";
    case Role::kExecutor: return "executor";
    case Role::kController: return "controller";
    case Role::kRouter: return "router";
    case Role::kSupervisor: return "supervisor";
  }
  return "unknown";
}

}  // namespace cenote
