// wire/grpc_log.h - gRPC's own log lines, and Protobuf's, go to ours at debug level: every one of gRPC's errors also arrives as a Status
// that says more, and what Protobuf says of a message that does not parse would let whoever sends such messages fill the log.
// gRPC's mutexes are not searched for cycles either.
#pragma once

namespace cenote::wire {

void quiet_grpc_log();  // Once per process; later calls do nothing. Any thread.

}  // namespace cenote::wire
