// Bytes to and from memory servers: what deploy writes, what tools read of manifests and files.
#include <future>

#include <pybind11/stl.h>

#include "base/status.h"
#include "bind.h"
#include "convert.h"
#include "fabric/local_address.h"
#include "measure_reads.h"
#include "object_reader.h"
#include "raise.h"
#include "send_blocks.h"
#include "source_object.h"
#include "wire/memory_client.h"

namespace py = pybind11;
using namespace py::literals;

namespace cenote::native {
namespace {

constexpr double kMeasureSecondsMax = 60;
constexpr Duration kGrantTimeout = Duration::from_seconds(5);
constexpr Duration kReadTimeout = Duration::from_seconds(5);

// Grants by the server's own word; `client` must outlive it.
ReadableServer readable_from(const MemoryServerInfo& info, wire::MemoryClient& client) {
  return {info, [&client](const std::vector<Digest>& ids) {
            std::promise<absl::StatusOr<Grant>> promise;
            auto answer = promise.get_future();
            client.grant(ids, "tool", kGrantTimeout, [&promise](absl::StatusOr<Grant> grant) { promise.set_value(std::move(grant)); });
            return answer.get();
          }};
}

// progress(bytes) in Python, and its signals. Once either raised, the exception stays set and the work is to stop.
Progress python_progress(const py::object& callback, bool& raised) {
  return [&callback, &raised](uint64_t bytes) {
    const py::gil_scoped_acquire acquire;
    if (raised) return false;
    if (!callback.is_none()) {
      const py::object result = py::reinterpret_steal<py::object>(PyObject_CallFunction(callback.ptr(), "K", static_cast<unsigned long long>(bytes)));
      raised = !result;
    }
    raised = raised || PyErr_CheckSignals() != 0;
    return !raised;
  };
}

py::bytes read_object_from(const std::string& certificates, const py::list& servers, const py::list& blocks) {
  std::vector<MemoryServerInfo> infos;
  for (const py::handle server : servers) infos.push_back(to_memory_server(py::cast<py::dict>(server)));
  const std::vector<BlockRef> refs = to_blocks(blocks);
  return py::bytes(call([&]() -> absl::StatusOr<std::string> {
    if (infos.empty()) return absl::UnavailableError("no memory server is up; see `cenote status`");
    CENOTE_ASSIGN_OR_RETURN(const wire::Identity identity, wire::load_client_identity(certificates));
    CENOTE_ASSIGN_OR_RETURN(std::string local, fabric::local_address_towards(infos.front().control_address));
    CENOTE_ASSIGN_OR_RETURN(const auto transport, fabric::open_transport({.provider = infos.front().fabric_provider, .bind_address = std::move(local)}));
    std::vector<std::unique_ptr<wire::MemoryClient>> clients;
    std::vector<ReadableServer> readable;
    for (const MemoryServerInfo& info : infos) {
      readable.push_back(readable_from(info, *clients.emplace_back(wire::MemoryClient::open(info.control_address, identity))));
    }
    return read_object(*transport, readable, refs, kReadTimeout);
  }));
}

py::dict measure(const std::string& certificates, const py::dict& server, const py::list& blocks, double seconds) {
  const MemoryServerInfo info = to_memory_server(server);
  const std::vector<BlockRef> refs = to_blocks(blocks);
  const ReadSpeed speed = call([&]() -> absl::StatusOr<ReadSpeed> {
    CENOTE_ASSIGN_OR_RETURN(const wire::Identity identity, wire::load_client_identity(certificates));
    CENOTE_ASSIGN_OR_RETURN(std::string local, fabric::local_address_towards(info.control_address));
    CENOTE_ASSIGN_OR_RETURN(const auto transport, fabric::open_transport({.provider = info.fabric_provider, .bind_address = std::move(local)}));
    const auto client = wire::MemoryClient::open(info.control_address, identity);
    return measure_reads(*transport, readable_from(info, *client), refs, Duration::from_seconds(std::clamp(seconds, 0.0, kMeasureSecondsMax)), kReadTimeout);
  });
  return py::dict("bytes"_a = speed.bytes, "gb_per_s"_a = speed.gb_per_s, "latency_us"_a = speed.latency_us);
}

// shares: [(server dict, [(hex, size, source, offset), ...]), ...]
py::dict send(const std::string& certificates, const py::list& shares, const std::string& writer, const py::object& progress) {
  std::vector<ServerShare> all;
  for (const py::handle item : shares) {
    const auto pair = py::cast<py::tuple>(item);
    ServerShare share{to_memory_server(py::cast<py::dict>(pair[0])), {}};
    for (const py::handle entry : py::cast<py::list>(pair[1])) {
      const auto block = py::cast<py::tuple>(entry);
      share.blocks.push_back({{to_digest(py::cast<std::string>(block[0])), py::cast<uint32_t>(block[1])},
                              &py::cast<const SourceObject&>(block[2]).range(), py::cast<uint64_t>(block[3])});
    }
    all.push_back(std::move(share));
  }
  bool raised = false;
  auto result = [&] {
    const py::gil_scoped_release release;
    const auto identity = wire::load_client_identity(certificates);
    if (!identity.ok()) return absl::StatusOr<WriteResult>(identity.status());
    return send_blocks(*identity, std::move(all), {.writer = writer}, python_progress(progress, raised));
  }();
  if (raised) throw py::error_already_set();
  const WriteResult sent = check(std::move(result));
  return py::dict("written_bytes"_a = sent.written_bytes, "deduplicated_bytes"_a = sent.deduplicated_bytes);
}

py::list hash(const SourceObject& source, const std::vector<std::pair<uint64_t, uint64_t>>& spans, int threads, const py::object& progress) {
  std::vector<BlockSpan> blocks;
  for (const auto& [offset, size] : spans) blocks.push_back({offset, size});
  bool raised = false;
  auto result = [&] {
    const py::gil_scoped_release release;
    return hash_blocks(source.range(), blocks, threads, python_progress(progress, raised));
  }();
  if (raised) throw py::error_already_set();
  py::list entries;
  for (const BlockEntry& entry : check(std::move(result))) {
    entries.append(py::make_tuple(entry.ref.id.hex(), entry.ref.size_bytes, entry.chunk_sums));
  }
  return entries;
}

}  // namespace

void bind_memory(py::module_& module) {
  py::class_<SourceObject>(module, "Source", "An object whose bytes lie in several Python buffers; keeps them alive.")
      .def(py::init<uint64_t, const py::list&>(), py::arg("size_bytes"), py::arg("pieces"), "pieces: [(offset, buffer), ...]")
      .def_property_readonly("size_bytes", [](const SourceObject& self) { return self.range().size_bytes(); })
      .def("read", [](const SourceObject& self, uint64_t offset, uint64_t size) {
        if (offset > self.range().size_bytes() || size > self.range().size_bytes() - offset) {
          raise(absl::OutOfRangeError("the range reaches beyond the object"));
        }
        std::string bytes(size, '\0');
        self.range().read(offset, {reinterpret_cast<std::byte*>(bytes.data()), bytes.size()});
        return py::bytes(bytes);
      });
  module.def("hash_blocks", &hash, py::arg("source"), py::arg("spans"), py::arg("threads") = 0, py::arg("progress") = py::none(),
             "[(sha256 hex, size, [xxh3 of each chunk]), ...] of spans [(offset, size), ...].");
  module.def("send_blocks", &send, py::arg("certificates"), py::arg("shares"), py::arg("writer"), py::arg("progress") = py::none());
  module.def("measure_reads", &measure, py::arg("certificates"), py::arg("server"), py::arg("blocks"), py::arg("seconds"),
             "How fast this host reads from one memory server; blocks: [(sha256 hex, size), ...], of which it may hold some.");
  module.def("read_object", &read_object_from, py::arg("certificates"), py::arg("servers"), py::arg("blocks"));
}

}  // namespace cenote::native
