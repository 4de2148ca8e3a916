// Goal: deploy, publish, rollback and remove become the events that people expect, or are refused with the
// remedy.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "catalog/catalogue_plans.h"
#include "scenario.h"

namespace cenote {
namespace {

using testing::HasSubstr;

struct Plans : testing::Test {
  Catalogue catalogue;
  RevisionRecord a = revision("m", "a"), b = revision("m", "b");

  void deploy(const RevisionRecord& record, bool update) {
    const auto events = plan_deploy(catalogue, record, "latest", update);
    ASSERT_TRUE(events.ok()) << events.status();
    apply_all(catalogue, *events);
  }
};

TEST_F(Plans, deploying_an_existing_name_needs_update) {
  deploy(a, false);
  const auto refused = plan_deploy(catalogue, b, "latest", false);
  EXPECT_TRUE(absl::IsAlreadyExists(refused.status()));
  EXPECT_THAT(refused.status().message(), HasSubstr("--update"));
  deploy(b, true);
  EXPECT_EQ(*catalogue.resolve("m"), b.digest);
}

TEST_F(Plans, deploying_what_is_there_already_is_no_event) {
  deploy(a, false);
  EXPECT_TRUE(plan_deploy(catalogue, a, "latest", false)->empty());
  deploy(b, true);
  // Back to the first content: sealed already, so the tag moves only.
  EXPECT_EQ(plan_deploy(catalogue, a, "latest", true)->size(), 1u);
}

TEST_F(Plans, publish_moves_a_tag_and_rollback_brings_it_back) {
  deploy(a, false);
  deploy(b, true);
  const auto publish = plan_publish(catalogue, *parse_model_ref("m@" + a.digest.hex()), "stable");
  ASSERT_TRUE(publish.ok());
  apply_all(catalogue, *publish);
  EXPECT_EQ(*catalogue.resolve("m:stable"), a.digest);
  EXPECT_TRUE(plan_publish(catalogue, *parse_model_ref("m@" + a.digest.hex()), "stable")->empty());
  apply_all(catalogue, *plan_rollback(catalogue, "m", "latest"));
  EXPECT_EQ(*catalogue.resolve("m"), a.digest);
  EXPECT_THAT(plan_rollback(catalogue, "m", "latest").status().message(),
              HasSubstr("m:latest has no previous target"));
  EXPECT_TRUE(absl::IsNotFound(plan_rollback(catalogue, "m", "nothing").status()));
  EXPECT_TRUE(absl::IsNotFound(plan_publish(catalogue, *parse_model_ref("m@000000"), "stable").status()));
}

TEST_F(Plans, removing_a_name_removes_all_of_it_and_nothing_else) {
  deploy(a, false);
  deploy(b, true);
  deploy(revision("n", "a"), false);
  apply_all(catalogue, *plan_remove(catalogue, *parse_model_ref("m")));
  EXPECT_THAT(catalogue.names(), testing::ElementsAre("n"));
  EXPECT_EQ(*catalogue.resolve("n"), a.digest);
  EXPECT_EQ(catalogue.references(block("b").id), 0u);
  EXPECT_TRUE(absl::IsNotFound(plan_remove(catalogue, *parse_model_ref("m")).status()));
}

TEST_F(Plans, removing_a_tag_removes_its_revision_unless_another_tag_needs_it) {
  deploy(a, false);
  apply_all(catalogue, *plan_publish(catalogue, *parse_model_ref("m"), "stable"));
  EXPECT_EQ(plan_remove(catalogue, *parse_model_ref("m:stable"))->size(), 1u);
  apply_all(catalogue, *plan_remove(catalogue, *parse_model_ref("m:stable")));
  apply_all(catalogue, *plan_remove(catalogue, *parse_model_ref("m:latest")));
  EXPECT_TRUE(catalogue.names().empty());
}

TEST_F(Plans, a_revision_that_a_tag_points_at_is_not_removed) {
  deploy(a, false);
  deploy(b, true);
  EXPECT_THAT(plan_remove(catalogue, *parse_model_ref("m@" + b.digest.hex())).status().message(),
              HasSubstr("tag m:latest points at it"));
  apply_all(catalogue, *plan_remove(catalogue, *parse_model_ref("m@" + a.digest.hex())));
  EXPECT_EQ(catalogue.find(a.digest), nullptr);
  EXPECT_TRUE(catalogue.tag("m", "latest")->history.empty());
}

}  // namespace
}  // namespace cenote
