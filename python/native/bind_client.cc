// Requests: kept and resent by client/client.h until their deadline.
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <optional>

#include <pybind11/stl.h>

#include "bind.h"
#include "client/client.h"
#include "convert.h"
#include "link_handle.h"
#include "raise.h"
#include "tensors.h"

namespace py = pybind11;
using namespace py::literals;

namespace cenote::native {
namespace {

using ClientHandle = LinkHandle<Client>;

ClientHandle open_client(const std::vector<std::string>& routers, const std::string& certificates) {
  if (routers.empty()) raise(absl::InvalidArgumentError("no router address was given"));
  const wire::Identity identity = call([&] { return wire::load_client_identity(certificates); });
  return ClientHandle(Client::open({.routers = routers, .identity = identity}).release());
}

// Where the reply arrives. Shared with the callback, which may outlive a wait that Ctrl-C ended.
struct Pending {
  std::mutex mutex;
  std::condition_variable came;
  std::optional<absl::StatusOr<InferReply>> reply;
};

// Waits without the GIL, but looks at Python's signals ten times a second; a signal's exception cancels the request.
absl::StatusOr<InferReply> wait_for(Client& client, const RequestId& id, Pending& pending) {
  while (true) {
    {
      const py::gil_scoped_release release;
      std::unique_lock lock(pending.mutex);
      if (pending.came.wait_for(lock, std::chrono::milliseconds(100), [&] { return pending.reply.has_value(); })) {
        return *std::move(pending.reply);
      }
    }
    if (PyErr_CheckSignals() != 0) {
      client.cancel(id);
      throw py::error_already_set();
    }
  }
}

// inputs: [(name, array or tensor), ...]; reply_bytes: what the outputs will take, 0 if that is not known.
py::dict infer(Client& client, const std::string& model, const py::list& inputs, double timeout_s, uint64_t reply_bytes) {
  InferRequest request;
  request.model = model;
  for (const py::handle item : inputs) {
    const auto pair = py::cast<py::tuple>(item);
    const auto name = py::cast<std::string>(pair[0]);
    request.inputs.push_back(Borrowed(pair[1], name).copy(name));
  }
  const auto pending = std::make_shared<Pending>();
  RequestId id;
  {
    const py::gil_scoped_release release;
    if (reply_bytes > 0) client.expect_reply(model, reply_bytes);
    id = client.infer(std::move(request), Duration::from_seconds(timeout_s), [pending](absl::StatusOr<InferReply> reply) {
      const std::lock_guard lock(pending->mutex);
      pending->reply = std::move(reply);
      pending->came.notify_one();
    });
  }
  InferReply reply = check(wait_for(client, id, *pending));
  py::list outputs;
  for (Tensor& tensor : reply.outputs) outputs.append(std::make_shared<Tensor>(std::move(tensor)));
  return py::dict("outputs"_a = outputs, "revision"_a = reply.revision.hex(), "executor"_a = reply.executor,
                  "waterfall"_a = to_dict(reply.waterfall));
}

}  // namespace

void bind_client(py::module_& module) {
  py::class_<Client, ClientHandle>(module, "Client")
      .def(py::init(&open_client), py::arg("routers"), py::arg("certificates"))
      .def("infer", &infer, py::arg("model"), py::arg("inputs"), py::arg("timeout_s") = 60.0,
           py::arg("reply_bytes") = 0);
}

}  // namespace cenote::native
