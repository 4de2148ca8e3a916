#include "message/caller.h"

#include "base/status.h"

namespace cenote {

std::string_view caller_role_name(CallerRole role) {
  switch (role) {
    case CallerRole::kNode: return "node";
    case CallerRole::kOperator: return "operator";
    case CallerRole::kDeployer: return "deployer";
    case CallerRole::kClient: return "client";
  }
  return "unknown";
}

std::string describe_caller(const Caller& caller) {
  std::string text = str_cat(caller.subject.empty() ? "a caller without a name" : caller.subject, " (", caller_role_name(caller.role));
  if (caller.role == CallerRole::kDeployer) text += str_cat(" of tenant ", caller.tenant);
  return text + ")";
}

}  // namespace cenote
