// Backups of the catalogue, and the labels that a lost one is found again by.
#include <pybind11/stl.h>

#include "bind.h"
#include "catalog/events.h"
#include "catalog/label.h"
#include "convert.h"
#include "raise.h"
#include "store/backup.h"

namespace py = pybind11;
using namespace py::literals;

namespace cenote::native {
namespace {

py::dict to_dict(const BackupInfo& info) {
  return py::dict("cluster"_a = info.cluster, "created_us"_a = info.created_us, "events"_a = info.events, "revisions"_a = info.revisions,
                  "sequence"_a = info.sequence, "fingerprint"_a = info.fingerprint.hex());
}

// -> (bytes, what is in it)
py::tuple make(const std::string& cluster, int64_t created_us, uint64_t sequence, const std::vector<std::string>& events) {
  const Backup backup = call([&] { return make_backup(cluster, created_us, sequence, events); });
  return py::make_tuple(py::bytes(backup.bytes), to_dict(backup.info));
}

py::bytes label_bytes(const py::dict& record) {
  const std::string bytes = check(encode_label({.revision = to_digest(py::cast<std::string>(record["digest"])),
                                                .name = py::cast<std::string>(record["name"]),
                                                .created_us = py::cast<int64_t>(record["created_us"]),
                                                .manifest_bytes = py::cast<uint64_t>(record["manifest_bytes"]),
                                                .manifest_blocks = to_blocks(record["manifest_blocks"])}));
  return py::bytes(bytes);
}

py::dict label_dict(const std::string& bytes) {
  const RevisionLabel label = check(decode_label(bytes));
  return py::dict("digest"_a = label.revision.hex(), "name"_a = label.name, "created_us"_a = label.created_us,
                  "manifest_bytes"_a = label.manifest_bytes, "manifest_blocks"_a = to_list(label.manifest_blocks));
}

}  // namespace

void bind_backup(py::module_& module) {
  module.def("make_backup", &make, py::arg("cluster"), py::arg("created_us"), py::arg("sequence"), py::arg("events"));
  module.def("check_backup", [](const std::string& bytes) { return to_dict(call([&] { return check_backup(bytes); })); }, py::arg("bytes"));
  module.def("restore_backup", [](const std::string& bytes, const std::string& path, uint64_t lineage) { call([&] { return restore_backup(bytes, path, lineage); }); },
             py::arg("bytes"), py::arg("path"), py::arg("lineage"));
  module.def("close_catalogue", [](const std::string& path) { call([&] { return close_catalogue(path); }); }, py::arg("path"));
  module.def("encode_label", &label_bytes, py::arg("record"));
  module.def("decode_label", &label_dict, py::arg("bytes"));
}

}  // namespace cenote::native
