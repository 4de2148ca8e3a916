// disk/posix_files.h - the system's file calls. Direct I/O (O_DIRECT) where the file system has it, so that a store's reads neither push
// other things out of the page cache nor are kept twice; buffered elsewhere (tmpfs), with a note.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "disk/files.h"

namespace cenote::disk {

struct PosixFiles {
  std::unique_ptr<Files> files;
  std::vector<std::string> notes;  // What the system refused, for people.
};

// `folder` must exist and be writable: a probe file is made and removed to see whether direct I/O works there; kept buffered without
// further word if there is no room for the probe.
PosixFiles open_posix_files(const std::string& folder);

}  // namespace cenote::disk
