// wire/grpc_log.h - gRPC's own log lines go to ours at debug level: every one of its errors also arrives as a Status that says more.
// Its mutexes are not searched for cycles either.
#pragma once

namespace cenote::wire {

void quiet_grpc_log();  // Once per process; later calls do nothing. Any thread.

}  // namespace cenote::wire
