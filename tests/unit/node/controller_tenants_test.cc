// Goal: a name is changed by deployers of its tenant and by operators alone; what a tenant may take of the pool holds when a deploy begins
// and when it is committed, deploys under way included.
#include "controller_world.h"

namespace cenote::node {
namespace {

using testing::AllOf;

Caller deployer(const std::string& tenant) { return {.role = CallerRole::kDeployer, .subject = "alice", .tenant = tenant}; }
const Caller kOperator{.role = CallerRole::kOperator, .subject = "olga"};

ControllerOptions with_tenants(std::map<std::string, ControllerOptions::TenantLimits> tenants) {
  ControllerOptions options = World::defaults();
  options.replicas = 1;
  options.tenants = std::move(tenants);
  return options;
}

// Blocks have 4096 bytes.
class TenantWorld : public World {
 public:
  explicit TenantWorld(std::map<std::string, ControllerOptions::TenantLimits> tenants = {}) : World(with_tenants(std::move(tenants))) { join("memory-0", Role::kMemory); }

  absl::StatusOr<DeployPlan> begin_as(const Caller& caller, const std::string& name, std::vector<uint32_t> blocks, bool update = false) {
    DeployRequest request{.name = name, .update = update, .client = "test"};
    for (const uint32_t n : blocks) request.blocks.push_back(block(n));
    const CallId call = this->call(BeginAsked{.request = request, .deadline = now + ms(10'000), .caller = caller});
    return plans.at(call);
  }
  absl::Status commit_as(const Caller& caller, uint64_t deploy, const RevisionRecord& record) {
    const CallId call = this->call(CommitAsked{.deploy = deploy, .record = record, .deadline = now + ms(10'000), .caller = caller});
    return commits.contains(call) ? commits.at(call).status() : absl::InternalError("not answered yet");
  }
  // Weights `weights`, and the manifest's block 1000 + number.
  absl::Status deploy_as(const Caller& caller, uint32_t number, const std::string& name, std::vector<uint32_t> weights, bool update = false) {
    std::vector<uint32_t> blocks = weights;
    blocks.push_back(1000 + number);
    const auto plan = begin_as(caller, name, blocks, update);
    if (!plan.ok()) return plan.status();
    for (const uint32_t n : blocks) said("memory-0", {n});
    return commit_as(caller, plan->deploy, record_of(number, name, weights));
  }
  ClusterStatus status() { return *clusters.at(call(ClusterAsked{})); }
};

TEST(ControllerTenants, a_name_is_its_first_deployers_and_only_his_tenant_or_an_operator_changes_it) {
  TenantWorld world;
  ASSERT_TRUE(world.deploy_as(deployer("vision"), 1, "m", {1}).ok());
  EXPECT_EQ(world.controller().catalogue().owner_of("m"), "vision");
  const absl::Status other = world.deploy_as(deployer("speech"), 2, "m", {2}, true);
  EXPECT_EQ(other.code(), StatusCode::kPermissionDenied);
  EXPECT_THAT(std::string(other.message()), AllOf(HasSubstr("alice (deployer of tenant speech) may not deploy m"), HasSubstr("belongs to tenant vision")));
  const std::string revision = "m@" + id_of(5001).hex();
  EXPECT_EQ(world.moves.at(world.call(PublishAsked{.model = revision, .tag = "t", .caller = deployer("speech")})).status().code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(world.moves.at(world.call(RollbackAsked{.model = "m", .caller = deployer("speech")})).status().code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(world.removals.at(world.call(RemoveAsked{.model = "m", .caller = deployer("speech")})).status().code(), StatusCode::kPermissionDenied);
  EXPECT_TRUE(world.moves.at(world.call(PublishAsked{.model = revision, .tag = "t", .caller = deployer("vision")})).ok());
  EXPECT_TRUE(world.deploy_as(kOperator, 3, "m", {3}, true).ok());
  EXPECT_EQ(world.controller().catalogue().owner_of("m"), "vision");  // An operator's help does not take it away.
  EXPECT_TRUE(world.removals.at(world.call(RemoveAsked{.model = "m", .caller = kOperator})).ok());
  EXPECT_TRUE(world.deploy_as(deployer("speech"), 4, "m", {4}).ok());
  EXPECT_EQ(world.controller().catalogue().owner_of("m"), "speech");
}

TEST(ControllerTenants, what_operators_deploy_and_what_was_there_before_belongs_to_the_default_tenant) {
  TenantWorld world;
  ASSERT_TRUE(world.deploy_as(kOperator, 1, "m", {1}).ok());
  EXPECT_EQ(world.deploy_as(deployer("vision"), 2, "m", {2}, true).code(), StatusCode::kPermissionDenied);
  EXPECT_TRUE(world.deploy_as(deployer("default"), 2, "m", {2}, true).ok());
}

TEST(ControllerTenants, a_deploy_is_gone_on_with_by_its_tenant_alone) {
  TenantWorld world;
  const auto plan = world.begin_as(deployer("vision"), "m", {1, 1001});
  ASSERT_TRUE(plan.ok());
  world.said("memory-0", {1, 1001});
  EXPECT_EQ(world.dones.at(world.call(RenewAsked{.deploy = plan->deploy, .caller = deployer("speech")})).code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(world.dones.at(world.call(AbortAsked{.deploy = plan->deploy, .caller = deployer("speech")})).code(), StatusCode::kPermissionDenied);
  EXPECT_EQ(world.commit_as(deployer("speech"), plan->deploy, record_of(1, "m", {1})).code(), StatusCode::kPermissionDenied);
  EXPECT_TRUE(world.dones.at(world.call(RenewAsked{.deploy = plan->deploy, .caller = deployer("vision")})).ok());
  EXPECT_TRUE(world.commit_as(deployer("vision"), plan->deploy, record_of(1, "m", {1})).ok());
}

TEST(ControllerTenants, two_tenants_that_begin_one_name_do_not_both_get_it) {
  TenantWorld world;
  const auto first = world.begin_as(deployer("vision"), "m", {1, 1001}, true), second = world.begin_as(deployer("speech"), "m", {2, 1002}, true);
  ASSERT_TRUE(first.ok() && second.ok());
  world.said("memory-0", {1, 1001, 2, 1002});
  EXPECT_TRUE(world.commit_as(deployer("vision"), first->deploy, record_of(1, "m", {1})).ok());
  EXPECT_EQ(world.commit_as(deployer("speech"), second->deploy, record_of(2, "m", {2})).code(), StatusCode::kPermissionDenied);
}

TEST(ControllerTenants, bytes_are_bounded_counting_shared_blocks_once_and_deploys_under_way) {
  TenantWorld world({{"vision", {.pool_bytes_max = 5 * 4096}}});
  ASSERT_TRUE(world.deploy_as(deployer("vision"), 1, "m", {1, 2}).ok());              // 3 blocks.
  ASSERT_TRUE(world.deploy_as(deployer("vision"), 2, "n", {1, 2}).ok());              // 1 more: its manifest.
  const auto open = world.begin_as(deployer("vision"), "o", {1, 1003});               // 1 more, leased.
  ASSERT_TRUE(open.ok());
  const auto refused = world.begin_as(deployer("vision"), "p", {2, 1004});
  EXPECT_EQ(refused.status().code(), StatusCode::kResourceExhausted);
  EXPECT_THAT(std::string(refused.status().message()), AllOf(HasSubstr("tenant vision uses 20.0 KiB"), HasSubstr("needs 4.0 KiB more"), HasSubstr("may have 20.0 KiB"),
                                                             HasSubstr("cenote remove"), HasSubstr("pool_bytes_max")));
  EXPECT_TRUE(world.begin_as(deployer("default"), "q", {10, 11, 12, 13, 14, 15, 1005}).ok());  // Others are not bound by it.
  EXPECT_TRUE(world.dones.at(world.call(AbortAsked{.deploy = open->deploy, .caller = deployer("vision")})).ok());
  EXPECT_TRUE(world.begin_as(deployer("vision"), "p", {2, 1004}).ok());
}

TEST(ControllerTenants, limits_hold_again_at_commit) {
  TenantWorld world({{"vision", {.models_max = 1}}});
  // An operator's deploy of vision's name counts for vision, wherever it comes between begin and commit.
  ASSERT_TRUE(world.deploy_as(deployer("vision"), 1, "m", {1}).ok());
  EXPECT_EQ(world.deploy_as(deployer("vision"), 2, "n", {2}).code(), StatusCode::kResourceExhausted);
  ASSERT_TRUE(world.removals.at(world.call(RemoveAsked{.model = "m", .caller = kOperator})).ok());
  const auto late = world.begin_as(deployer("vision"), "n", {2, 1002});
  ASSERT_TRUE(late.ok());
  world.said("memory-0", {2, 1002});
  EXPECT_EQ(world.begin_as(deployer("vision"), "o", {3, 1003}).status().code(), StatusCode::kResourceExhausted);
  EXPECT_TRUE(world.commit_as(deployer("vision"), late->deploy, record_of(2, "n", {2})).ok());
}

TEST(ControllerTenants, tenants_that_settings_do_not_name_are_refused_once_they_name_any) {
  TenantWorld world({{"vision", {.pool_bytes_max = 0}}});
  const absl::Status status = world.deploy_as(deployer("vison"), 1, "m", {1});
  EXPECT_EQ(status.code(), StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("no [[tenant]] named vison"), HasSubstr("vision")));
  EXPECT_TRUE(world.deploy_as(deployer("default"), 1, "m", {1}).ok());
}

TEST(ControllerTenants, status_says_what_each_tenant_uses) {
  TenantWorld plain;
  ASSERT_TRUE(plain.deploy_as(kOperator, 1, "m", {1}).ok());
  EXPECT_TRUE(plain.status().tenants.empty());
  TenantWorld world({{"vision", {.pool_bytes_max = 1 << 20, .models_max = 3}}});
  ASSERT_TRUE(world.deploy_as(deployer("vision"), 1, "m", {1}).ok());
  ASSERT_EQ(world.status().tenants.size(), 2u);
  const TenantStatus vision = world.status().tenants[1];
  EXPECT_EQ(vision.name, "vision");
  EXPECT_EQ(vision.used_bytes, 2u * 4096);
  EXPECT_EQ(vision.models, 1u);
  EXPECT_EQ(vision.pool_bytes_max, 1u << 20);
  ASSERT_TRUE(world.begin_as(deployer("vision"), "n", {2, 1002}).ok());
  EXPECT_EQ(world.status().tenants[1].used_bytes, 4u * 4096);
}

}  // namespace
}  // namespace cenote::node
