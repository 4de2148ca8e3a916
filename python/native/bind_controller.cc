// The controller's calls. Ctrl-C reaches Python only between calls: each has a timeout of seconds.
#include <pybind11/stl.h>

#include "bind.h"
#include "convert.h"
#include "link_handle.h"
#include "raise.h"
#include "wire/controller_client.h"

namespace py = pybind11;
using namespace py::literals;

namespace cenote::native {
namespace {

using wire::CallOptions;
using wire::ControllerClient;

CallOptions within(double timeout_s) { return {.timeout = Duration::from_seconds(timeout_s)}; }

LinkHandle<ControllerClient> open_controller(const std::string& address, const std::string& certificates) {
  const wire::Identity identity = call([&] { return wire::load_client_identity(certificates); });
  return LinkHandle<ControllerClient>(ControllerClient::open(address, identity).release());
}

py::dict to_dict(const TagMove& move) {
  return py::dict("name"_a = move.name, "tag"_a = move.tag, "revision"_a = move.revision.hex(),
                  "previous"_a = move.previous.empty() ? py::object(py::none()) : py::object(py::str(move.previous.hex())));
}

DeployRequest to_deploy(const py::dict& request) {
  return {.name = py::cast<std::string>(request["name"]),
          .tag = py::cast<std::string>(request["tag"]),
          .update = py::cast<bool>(request["update"]),
          .blocks = to_blocks(request["blocks"]),
          .client = py::cast<std::string>(request["client"]),
          .operation = py::cast<std::string>(request["operation"]),
          .cache_bytes = py::cast<uint64_t>(request["cache_bytes"])};
}

RevisionRecord to_record(const py::dict& record) {
  return {.digest = to_digest(py::cast<std::string>(record["digest"])),
          .name = py::cast<std::string>(record["name"]),
          .manifest_bytes = py::cast<uint64_t>(record["manifest_bytes"]),
          .manifest_blocks = to_blocks(record["manifest_blocks"]),
          .blocks = to_blocks(record["blocks"]),
          .file_blocks = to_blocks(record["file_blocks"]),
          .weight_bytes = py::cast<uint64_t>(record["weight_bytes"]),
          .created_us = py::cast<int64_t>(record["created_us"]),
          .device_filter = py::cast<std::string>(record["device_filter"]),
          .label = record["label"].is_none() ? BlockRef() : to_blocks(py::make_tuple(record["label"])).front()};
}

using Class = py::class_<ControllerClient, LinkHandle<ControllerClient>>;

// Backup and rebuild of the catalogue.
void bind_keeping(Class& controller) {
  const auto timeout = py::arg("timeout_s") = 10.0;
  controller
      .def(
          "read_events",
          [](ControllerClient& self, uint64_t from, double t) {
            const EventPage page = call([&] { return self.read_events(from, within(t)); });
            py::list events;
            for (const std::string& event : page.events) events.append(py::bytes(event));
            return py::dict("cluster"_a = page.cluster, "first"_a = page.first, "last"_a = page.last, "events"_a = events);
          },
          py::arg("from"), timeout)
      .def(
          "find_unclaimed",
          [](ControllerClient& self, double t) {
            const Unclaimed found = call([&] { return self.find_unclaimed(within(t)); });
            return py::dict("labels"_a = to_list(found.labels), "blocks"_a = found.blocks, "bytes"_a = found.bytes, "absent"_a = found.absent,
                            "held_because"_a = found.held_because);
          },
          timeout)
      .def(
          "adopt",
          [](ControllerClient& self, const py::dict& record, double t) {
            const RevisionRecord revision = to_record(record);
            return native::to_dict(call([&] { return self.adopt(revision, within(t)); }));
          },
          py::arg("record"), timeout)
      .def("hold_drops", [](ControllerClient& self, bool hold, double t) { call([&] { return self.hold_drops(hold, within(t)); }); },
           py::arg("hold"), timeout);
}

}  // namespace

void bind_controller(py::module_& module) {
  const auto timeout = py::arg("timeout_s") = 10.0;
  const auto operation = py::arg("operation") = py::bytes();
  Class controller(module, "Controller");
  controller
      .def(py::init(&open_controller), py::arg("address"), py::arg("certificates"))
      .def("cluster", [](ControllerClient& self, double t) { return native::to_dict(call([&] { return self.cluster(within(t)); })); }, timeout)
      .def(
          "models",
          [](ControllerClient& self, const std::string& model, bool blocks, double t) {
            py::list list;
            for (const ModelInfo& info : call([&] { return self.models(model, blocks, within(t)); })) list.append(native::to_dict(info));
            return list;
          },
          py::arg("model") = "", py::arg("blocks") = false, timeout)
      .def(
          "publish",
          [](ControllerClient& self, const std::string& model, const std::string& tag, const std::string& operation, double t) {
            return to_dict(call([&] { return self.publish(model, tag, operation, within(t)); }));
          },
          py::arg("model"), py::arg("tag"), operation, timeout)
      .def(
          "rollback",
          [](ControllerClient& self, const std::string& model, const std::string& operation, double t) {
            return to_dict(call([&] { return self.rollback(model, operation, within(t)); }));
          },
          py::arg("model"), operation, timeout)
      .def(
          "remove",
          [](ControllerClient& self, const std::string& model, const std::string& operation, double t) {
            const Removal removal = call([&] { return self.remove(model, operation, within(t)); });
            py::list revisions;
            for (const Digest& revision : removal.revisions) revisions.append(revision.hex());
            return py::dict("revisions"_a = revisions, "freed_bytes"_a = removal.freed_bytes);
          },
          py::arg("model"), operation, timeout)
      .def("evict", [](ControllerClient& self, const std::string& model, double t) { call([&] { return self.evict(model, within(t)); }); },
           py::arg("model"), timeout)
      .def("drain", [](ControllerClient& self, const std::string& member, double t) { call([&] { return self.drain(member, within(t)); }); },
           py::arg("member"), timeout)
      .def(
          "begin_deploy",
          [](ControllerClient& self, const py::dict& request, double t) {
            const DeployRequest deploy = to_deploy(request);
            return native::to_dict(call([&] { return self.begin_deploy(deploy, within(t)); }));
          },
          py::arg("request"), timeout)
      .def("renew_deploy", [](ControllerClient& self, uint64_t deploy, double t) { call([&] { return self.renew_deploy(deploy, within(t)); }); },
           py::arg("deploy"), timeout)
      .def("abort_deploy", [](ControllerClient& self, uint64_t deploy, double t) { call([&] { return self.abort_deploy(deploy, within(t)); }); },
           py::arg("deploy"), timeout)
      .def(
          "commit_deploy",
          [](ControllerClient& self, uint64_t deploy, const py::dict& record, const std::string& operation, double t) {
            const RevisionRecord revision = to_record(record);
            return native::to_dict(call([&] { return self.commit_deploy(deploy, revision, operation, within(t)); }));
          },
          py::arg("deploy"), py::arg("record"), operation, timeout);
  bind_keeping(controller);
}

}  // namespace cenote::native
