// Goal: contexts come from a bounded pool, and lists of them keep their order.
#include "fabric/libfabric/operations.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace cenote::fabric {
namespace {

TEST(OperationPool, gives_each_context_once_and_no_more_than_its_limit) {
  OperationPool pool;
  std::set<Operation*> taken;
  for (size_t i = 0; i < kOperationsPerTransportMax; ++i) {
    Operation* operation = pool.take();
    ASSERT_NE(operation, nullptr) << i;
    EXPECT_TRUE(taken.insert(operation).second);
  }
  EXPECT_EQ(pool.take(), nullptr);
  pool.give(*taken.begin());
  EXPECT_EQ(pool.take(), *taken.begin());
  EXPECT_EQ(pool.in_use(), kOperationsPerTransportMax);
}

TEST(OperationList, keeps_order_through_removals_anywhere) {
  std::vector<Operation> operations(5);
  OperationList list;
  for (Operation& operation : operations) list.push_back(&operation);
  list.remove(&operations[2]);
  list.remove(&operations[0]);
  list.remove(&operations[4]);
  EXPECT_EQ(list.size(), 2u);
  EXPECT_EQ(list.first(), &operations[1]);
  EXPECT_EQ(list.first()->next, &operations[3]);
  EXPECT_EQ(operations[3].next, nullptr);
  list.push_back(&operations[0]);
  EXPECT_EQ(operations[3].next, &operations[0]);
  list.remove(&operations[1]);
  list.remove(&operations[3]);
  list.remove(&operations[0]);
  EXPECT_TRUE(list.empty());
}

}  // namespace
}  // namespace cenote::fabric
