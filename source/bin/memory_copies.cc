#include "bin/memory_copies.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "base/status.h"
#include "base/units.h"

namespace cenote {

MemoryCopies::MemoryCopies(FabricThread& fabric, fabric::MemoryRegion& blocks, wire::Identity identity, std::string holder, Answer answer)
    : fabric_(fabric), blocks_(blocks), identity_(std::move(identity)), holder_(std::move(holder)), answer_(std::move(answer)) {
  fabric_.on_completion([this](const fabric::Completion& completion) { completed(completion); });
}

MemoryCopies::~MemoryCopies() {
  std::map<std::string, Source> sources;
  fabric_.run([&](fabric::Transport&) {
    ending_ = true;
    for (auto& [name, source] : sources_) source.endpoint.reset();
    std::swap(sources, sources_);
  });
  sources.clear();  // Their calls answer, by tasks that find nothing.
  fabric_.run([this](fabric::Transport&) { fabric_.on_completion(nullptr); });
}

void MemoryCopies::fetch(const node::FetchCopy& copy) {
  fabric_.post([this, copy](fabric::Transport&) {
    const uint64_t number = next_++;
    flights_.emplace(number, Flight{.copy = copy, .grant_by = monotonic_now() + kGrantFor});
    ask(number);
  });
}

void MemoryCopies::ask(uint64_t number) {
  const Flight& flight = flights_.at(number);
  const MemoryServerInfo& info = flight.copy.source;
  Source& source = sources_[info.name];
  if (source.client == nullptr || source.control_address != info.control_address) {
    source.client = wire::MemoryClient::open(info.control_address, identity_);
    source.control_address = info.control_address;
  }
  const Instant sent_at = monotonic_now();
  source.client->grant({flight.copy.block.id}, holder_, std::max(Duration::from_ms(1), flight.grant_by - sent_at), [this, number, sent_at](absl::StatusOr<Grant> grant) {
    fabric_.post([this, number, sent_at, grant = std::move(grant)](fabric::Transport& transport) { granted(transport, number, sent_at, grant); });
  });
}

void MemoryCopies::granted(fabric::Transport& transport, uint64_t number, Instant sent_at, const absl::StatusOr<Grant>& grant) {
  const auto found = flights_.find(number);
  if (found == flights_.end() || ending_) return;
  Flight& flight = found->second;
  const BlockRef& block = flight.copy.block;
  if (!grant.ok()) return end(number, grant.status());
  if (grant->incarnation != flight.copy.source.incarnation) return end(number, absl::UnavailableError("it restarted since"));
  if (!grant->missing.empty()) return end(number, absl::NotFoundError("it does not hold the block"));
  if (grant->blocks.empty()) {  // It is still reading it back.
    if (monotonic_now() >= flight.grant_by) return end(number, absl::DeadlineExceededError("it was not read back from its disk in time"));
    return ask(number);
  }
  const BlockGrant& place = grant->blocks.front();
  if (place.id != block.id || place.size_bytes != block.size_bytes) return end(number, absl::DataLossError("it holds the block with another size"));
  Source& source = sources_[flight.copy.source.name];
  if (const absl::Status status = connect(transport, source, flight.copy.source); !status.ok()) return end(number, status);
  flight.from = {.region = {.key = grant->region_key, .base = grant->region_base}, .offset_bytes = place.offset_bytes, .size_bytes = block.size_bytes};
  flight.granted_until = sent_at + grant->duration;
  read_next(number);
}

absl::Status MemoryCopies::connect(fabric::Transport& transport, Source& source, const MemoryServerInfo& info) {
  if (source.endpoint != nullptr && source.fabric_address == info.fabric_address && !source.endpoint->broken()) return absl::OkStatus();
  close(info.name);
  CENOTE_ASSIGN_OR_RETURN(source.endpoint, transport.connect({.provider = info.fabric_provider, .bytes = info.fabric_address}));
  source.fabric_address = info.fabric_address;
  return absl::OkStatus();
}

void MemoryCopies::read_next(uint64_t number) {
  const Flight& flight = flights_.at(number);
  const uint64_t done = flight.copy.block.size_bytes - flight.from.size_bytes;
  const uint64_t size = std::min(flight.from.size_bytes, kReadBytes);
  const fabric::RemoteSpan from{.region = flight.from.region, .offset_bytes = flight.from.offset_bytes, .size_bytes = size};
  const fabric::LocalSpan to{.region = &blocks_, .offset_bytes = flight.copy.target_offset_bytes + done, .size_bytes = size};
  const absl::Status status = sources_.at(flight.copy.source.name).endpoint->read(from, to, number, std::min(flight.granted_until, monotonic_now() + kReadFor));
  if (!status.ok()) end(number, status);
}

void MemoryCopies::completed(const fabric::Completion& completion) {
  const auto found = flights_.find(completion.tag);
  if (found == flights_.end()) return;
  Flight& flight = found->second;
  if (completion.code != absl::StatusCode::kOk) {
    return end(completion.tag, absl::UnavailableError(completion.code == absl::StatusCode::kDeadlineExceeded ? "a read was not answered in time" : "a read failed"));
  }
  const uint64_t size = std::min(flight.from.size_bytes, kReadBytes);
  flight.from.offset_bytes += size;
  flight.from.size_bytes -= size;
  if (flight.from.size_bytes == 0) return end(completion.tag, absl::OkStatus());
  read_next(completion.tag);
}

void MemoryCopies::end(uint64_t number, absl::Status status) {
  const auto flight = flights_.extract(number);
  // A read that is still on its way would write into the target after this: it ends with its endpoint.
  if (!status.ok() && flight.mapped().from.size_bytes != 0) close(flight.mapped().copy.source.name);
  answer_({.id = flight.mapped().copy.block.id, .status = std::move(status)});
}

// Its endpoint, and with it all that is being read there: one that failed is closed for good.
void MemoryCopies::close(const std::string& server) {
  const auto source = sources_.find(server);
  if (source == sources_.end() || source->second.endpoint == nullptr) return;
  source->second.endpoint.reset();
  std::vector<uint64_t> reading;
  for (const auto& [number, flight] : flights_) {
    if (flight.copy.source.name == server && flight.from.size_bytes != 0) reading.push_back(number);
  }
  for (const uint64_t number : reading) end(number, absl::UnavailableError("another read of this server failed"));
}

}  // namespace cenote
