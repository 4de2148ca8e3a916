// A model of tests/data/graphs (made by make.py there), loaded over memory of its own.
#pragma once

#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "ATen/core/Tensor.h"
#include "execute/torch/engine.h"
#include "execute/torch/graph_folder.h"
#include "execute/torch/tensors.h"
#include "folders.h"
#include "gtest/gtest.h"

namespace cenote::execute {

class ExportedModel {
 public:
  static constexpr int kThreads = 2;

  // `poison`: the weights are left as bytes 0xff (NaN, -1) instead of being put in place.
  explicit ExportedModel(const std::string& name, bool poison = false) : stem_(test_data("graphs/" + name)) {
    auto folder = read_graph_folder(stem_);
    EXPECT_TRUE(folder.ok()) << folder.status();
    folder_ = *std::move(folder);
    weights_ = std::make_unique<HostRange>(folder_.weights.size());
    std::memset(weights_->data(), 0xff, weights_->size());
    if (!poison) std::memcpy(weights_->data(), folder_.weights.data(), folder_.weights.size());
    auto engine = open_torch_engine({.threads = kThreads});
    EXPECT_TRUE(engine.ok()) << engine.status();
    engine_ = *std::move(engine);
  }

  absl::Status load() {
    auto model = engine_->load(folder_.manifest, weights_->span());
    if (model.ok()) model_ = *std::move(model);
    return model.status();
  }

  std::vector<Tensor> inputs(int batch) const { return tensors("inputs", batch); }
  std::vector<Tensor> outputs(int batch) const { return tensors("outputs", batch); }
  // Copies these bytes of the true weights into place.
  void arrive(device::ByteRange range) {
    std::memcpy(weights_->data() + range.begin, folder_.weights.data() + range.begin, range.end - range.begin);
  }

  Manifest& manifest() { return folder_.manifest; }
  Model& model() { return *model_; }
  const HostRange& weights() const { return *weights_; }
  const std::string& true_weights() const { return folder_.weights; }

 private:
  std::vector<Tensor> tensors(const std::string& what, int batch) const {
    auto read = read_tensors(stem_ + "/" + what + std::to_string(batch));
    EXPECT_TRUE(read.ok()) << read.status();
    return *std::move(read);
  }

  std::string stem_;
  GraphFolder folder_;
  std::unique_ptr<HostRange> weights_;
  std::unique_ptr<Engine> engine_;
  std::unique_ptr<Model> model_;
};

// Whether PyTorch's outputs were met to 1e-5 of the largest value of each (bf16 and f16: to one step of theirs).
inline ::testing::AssertionResult same(const std::vector<Tensor>& got, const std::vector<Tensor>& want) {
  if (got.size() != want.size()) return ::testing::AssertionFailure() << got.size() << " outputs, not " << want.size();
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i].name != want[i].name || got[i].dtype != want[i].dtype || got[i].shape != want[i].shape) {
      return ::testing::AssertionFailure() << "output " << i << " is '" << got[i].name << "' "
                                           << describe(got[i].dtype, got[i].shape) << ", not '" << want[i].name << "' "
                                           << describe(want[i].dtype, want[i].shape);
    }
    const at::Tensor a = view_input(got[i]).to(at::kDouble).contiguous(), b = view_input(want[i]).to(at::kDouble).contiguous();
    const double tolerance = got[i].dtype == DType::kBf16 ? 8e-3 : got[i].dtype == DType::kF16 ? 1e-3 : 1e-5;
    double scale = 1e-30;
    for (int64_t e = 0; e < b.numel(); ++e) scale = std::max(scale, std::abs(b.const_data_ptr<double>()[e]));
    for (int64_t e = 0; e < b.numel(); ++e) {
      const double difference = std::abs(a.const_data_ptr<double>()[e] - b.const_data_ptr<double>()[e]);
      if (!(difference <= tolerance * scale)) {
        return ::testing::AssertionFailure() << "output '" << got[i].name << "' element " << e << " differs by " << difference;
      }
    }
  }
  return ::testing::AssertionSuccess();
}

}  // namespace cenote::execute
