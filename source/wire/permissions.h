// wire/permissions.h - which role may call what: one table for every method of cenote.proto. A method without an entry is refused to
// everybody, and the test of this file fails. Whose models a deployer may change is the catalogue's business (node/controller_owners.cc).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "message/caller.h"

namespace cenote::wire {

struct Permission {
  std::string_view method;        // "Controller/Drain", of package cenote.v1.
  std::string_view action;        // "drain members": fits after "may not".
  std::span<const CallerRole> roles;
};

std::span<const Permission> permissions();

// Of ":path" as gRPC has it, "/cenote.v1.Controller/Drain". Null: no such method.
const Permission* find_permission(std::string_view path);

// kPermissionDenied says who the caller is, what it takes and how to get it; kUnimplemented: no such method.
absl::Status permit(std::string_view path, const Caller& caller);

}  // namespace cenote::wire
