// fabric/libfabric/errors.h - what libfabric's error numbers and its callers' addresses mean here. Pure.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "fabric/transport.h"

namespace cenote::fabric {

// A Status from a (positive or negative) libfabric error: "what: text". Addresses in use are kAlreadyExists, memory and
// queue limits kResourceExhausted, lost peers kUnavailable.
absl::Status fabric_error(long error, absl::string_view what);

// kAlreadyExists: another process serves at that port.
absl::Status port_taken(absl::string_view address, uint16_t port);

// Why `size_bytes` could not be registered. Pinning limits are the usual reason, so `memlock_limit_bytes` (RLIMIT_MEMLOCK;
// UINT64_MAX: none) and the remedy are in the message.
absl::Status registration_error(long error, uint64_t size_bytes, uint64_t memlock_limit_bytes, absl::string_view provider);

// Refuses what a provider would read past or misread: another provider, no bytes, more than kAddressBytesMax, a length or
// family that `address_format` (FI_SOCKADDR_IN, ...) does not have, text without its end. `own_bytes` is the length of our
// own address, the rule for formats without a fixed length.
absl::Status check_address(const Address& address, absl::string_view provider, uint32_t address_format, size_t own_bytes);

}  // namespace cenote::fabric
