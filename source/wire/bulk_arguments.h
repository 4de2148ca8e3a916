// wire/bulk_arguments.h - gRPC's own limits, set for payloads of megabytes on both ends of a connection.
#pragma once

#include <utility>

#include "grpc/impl/codegen/grpc_types.h"

namespace cenote::wire {

// gRPC's defaults (frames of 16 KiB, windows that grow by measured bandwidth, reads of 8 KiB) suit small messages: a reply of 12 MiB
// took several times what its encryption costs.
inline constexpr std::pair<const char*, int> kBulkArguments[] = {
    {GRPC_ARG_HTTP2_MAX_FRAME_SIZE, 1 << 20},
    {GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 16 << 20},
    {GRPC_ARG_HTTP2_WRITE_BUFFER_SIZE, 1 << 20},
    {GRPC_ARG_TCP_READ_CHUNK_SIZE, 256 << 10},
    {GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, 4 << 20},
};

}  // namespace cenote::wire
