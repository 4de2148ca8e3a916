// native/source_object.h - a RangeSource over Python buffers, which it keeps alive.
#pragma once

#include <memory>
#include <vector>

#include <pybind11/pybind11.h>

#include "raise.h"
#include "range_source.h"
#include "tensors.h"

namespace cenote::native {

class SourceObject {
 public:
  SourceObject(uint64_t size_bytes, const pybind11::list& pieces) {
    std::vector<Piece> spans;
    for (const pybind11::handle item : pieces) {
      const auto pair = pybind11::cast<pybind11::tuple>(item);
      const auto& bytes = buffers_.emplace_back(std::make_unique<Borrowed>(pair[1], "piece"));
      spans.push_back({pybind11::cast<uint64_t>(pair[0]), {bytes->data(), bytes->size_bytes()}});
    }
    range_ = check(RangeSource::make(size_bytes, std::move(spans)));
  }
  const RangeSource& range() const { return range_; }

 private:
  std::vector<std::unique_ptr<Borrowed>> buffers_;
  RangeSource range_;
};

}  // namespace cenote::native
