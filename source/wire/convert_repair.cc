// What repair and health add to reports and directives: copies ordered and failed, what was seen of memory servers.
#include <algorithm>
#include <map>

#include "base/status.h"
#include "wire/bounds.h"
#include "wire/convert_list.h"
#include "wire/convert_member.h"
#include "wire/convert_record.h"
#include "wire/status.h"

namespace cenote::wire {
namespace {

constexpr int64_t kReadTimeMaxUs = int64_t{1} << 53;

void write_order(const CopyOrder& order, const std::map<std::string_view, uint32_t>& index, v1::CopyOrder* proto) {
  to_proto(order.block, proto->mutable_block());
  for (const std::string& source : order.sources) {
    if (const auto found = index.find(source); found != index.end()) proto->add_sources(found->second);
  }
}

absl::Status read_copies(const v1::MemoryDirective& proto, MemoryDirective& memory) {
  CENOTE_RETURN_IF_ERROR(read_list("sources", proto.sources(), kMembersMax, &memory.sources));
  CENOTE_RETURN_IF_ERROR(check_count("copies", proto.copy_size(), kCopiesMax));
  for (const v1::CopyOrder& entry : proto.copy()) {
    CopyOrder order;
    CENOTE_ASSIGN_OR_RETURN(order.block, from_proto(entry.block()));
    CENOTE_RETURN_IF_ERROR(check_count("sources of a copy", entry.sources_size(), kServersPerBlockMax));
    for (const uint32_t source : entry.sources()) {
      if (source >= memory.sources.size()) {
        return absl::InvalidArgumentError(str_cat("copy of block ", order.block.id.short_hex(), ": source ", source, " of ", memory.sources.size()));
      }
      order.sources.push_back(memory.sources[source].name);
    }
    memory.copy.push_back(std::move(order));
  }
  return absl::OkStatus();
}

}  // namespace

void to_proto(const CopyFailure& failure, v1::CopyFailure* proto) {
  proto->set_block(digest_bytes(failure.block));
  proto->set_why(utf8_text(failure.why, kTextBytesMax));
}

absl::StatusOr<CopyFailure> from_proto(const v1::CopyFailure& proto) {
  CopyFailure failure{.why = utf8_text(proto.why(), kTextBytesMax)};
  CENOTE_ASSIGN_OR_RETURN(failure.block, digest_of("block not copied", proto.block()));
  return failure;
}

void to_proto(const DoubtfulReplica& replica, v1::DoubtfulReplica* proto) {
  proto->set_server(replica.server);
  proto->set_block(digest_bytes(replica.block));
}

absl::StatusOr<DoubtfulReplica> from_proto(const v1::DoubtfulReplica& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("server of a doubtful replica", proto.server(), kNameBytesMax));
  DoubtfulReplica replica{.server = proto.server()};
  CENOTE_ASSIGN_OR_RETURN(replica.block, digest_of("doubtful block", proto.block()));
  return replica;
}

void to_proto(const ServerSeen& seen, v1::ServerSeen* proto) {
  proto->set_server(seen.server);
  proto->set_reads(seen.reads);
  proto->set_bytes(seen.bytes);
  proto->set_read_time_us(seen.read_time.us());
  proto->set_failures(seen.failures);
  proto->set_corrupt_chunks(seen.corrupt_chunks);
}

absl::StatusOr<ServerSeen> from_proto(const v1::ServerSeen& proto) {
  CENOTE_RETURN_IF_ERROR(check_text("server seen", proto.server(), kNameBytesMax));
  // A sum over many reads at once may be longer than any single duration.
  return ServerSeen{.server = proto.server(), .reads = proto.reads(), .bytes = proto.bytes(),
                    .read_time = Duration::from_us(std::clamp<int64_t>(proto.read_time_us(), 0, kReadTimeMaxUs)), .failures = proto.failures(),
                    .corrupt_chunks = proto.corrupt_chunks()};
}

void to_proto(const MemoryDirective& memory, v1::MemoryDirective* proto) {
  proto->set_version(memory.version);
  write_digests(memory.drop, proto->mutable_drop());
  proto->set_send_inventory(memory.send_inventory);
  proto->set_lineage(memory.lineage);
  proto->set_lineage_sequence(memory.lineage_sequence);
  std::map<std::string_view, uint32_t> index;
  for (const MemoryServerInfo& source : memory.sources) index.emplace(source.name, index.size());
  for (const CopyOrder& order : memory.copy) write_order(order, index, proto->add_copy());
  write_list(memory.sources, proto->mutable_sources());
  write_digests(memory.check, proto->mutable_check());
}

absl::StatusOr<MemoryDirective> from_proto(const v1::MemoryDirective& proto) {
  MemoryDirective memory{.version = proto.version(), .send_inventory = proto.send_inventory(), .lineage = proto.lineage(),
                         .lineage_sequence = proto.lineage_sequence()};
  CENOTE_RETURN_IF_ERROR(read_digests("drop", proto.drop(), kReplicasMax, &memory.drop));
  CENOTE_RETURN_IF_ERROR(read_copies(proto, memory));
  CENOTE_RETURN_IF_ERROR(read_digests("check", proto.check(), kCopiesMax, &memory.check));
  return memory;
}

}  // namespace cenote::wire
