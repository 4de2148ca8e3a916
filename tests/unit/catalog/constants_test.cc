// Goal: numbers that are stored or sent do not change unseen: the table of them is a golden file.
#include <gtest/gtest.h>

#include <sstream>

#include "../golden.h"
#include "base/units.h"
#include "catalog/events.h"
#include "catalog/label.h"
#include "catalog/layout.h"
#include "catalog/manifest.h"
#include "message/infer.h"
#include "message/member.h"

namespace cenote {
namespace {

TEST(Constants, the_table_of_frozen_numbers_is_the_one_on_file) {
  std::ostringstream table;
  table << "kChunkBytes " << kChunkBytes << "\nkBlockBytesMax " << kBlockBytesMax << "\nkBlockAlignBytes "
        << kBlockAlignBytes << "\nkTensorAlignBytes " << kTensorAlignBytes << "\nkBlockStartTensorBytes "
        << kBlockStartTensorBytes << "\nkManifestBytesMax " << kManifestBytesMax << "\nkRangeBytesMax "
        << kRangeBytesMax << "\nkTensorsMax " << kTensorsMax << "\nkPayloadBytesMax " << kPayloadBytesMax
        << "\nkInlinePayloadBytesMax " << kInlinePayloadBytesMax << "\n";
  for (int value = 0; value < 256; ++value) {
    if (dtype_valid(value))
      table << "dtype " << value << " " << dtype_name(static_cast<DType>(value)) << " "
            << dtype_bytes(static_cast<DType>(value)) << "\n";
  }
  for (int value = 1; value <= 6; ++value)
    table << "role " << value << " " << role_name(static_cast<Role>(value)) << "\n";
  table << "tensor kind parameter " << int(TensorKind::kParameter) << " buffer " << int(TensorKind::kBuffer)
        << " constant " << int(TensorKind::kConstant) << "\n";
  table << "temperature cold " << int(Temperature::kCold) << " cached " << int(Temperature::kCached)
        << " resident " << int(Temperature::kResident) << "\n";
  const auto index = [](CatalogueEvent event) { return event.index() + 1; };
  table << "event RevisionSealed " << index(RevisionSealed{}) << " TagMoved " << index(TagMoved{})
        << " TagRemoved " << index(TagRemoved{}) << " RevisionRemoved " << index(RevisionRemoved{})
        << " ReplicasAdded " << index(ReplicasAdded{}) << " ReplicasLost " << index(ReplicasLost{})
        << " PrefetchSet " << index(PrefetchSet{}) << " OperationDone " << index(OperationDone{})
        << " LineageSet " << index(LineageSet{}) << " RevisionLabelled " << index(RevisionLabelled{})
        << " NameOwned " << index(NameOwned{}) << "\n";
  table << "kLabelBytes " << kLabelBytes << "\n";
  expect_golden("constants.txt", table.str());
}

}  // namespace
}  // namespace cenote
