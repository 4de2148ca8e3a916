// Goal: the struct view says what the file says, relations between keys are checked, and the shipped files
// are right.
#include "base/cluster_settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "folders.h"

namespace cenote {
namespace {

using testing::Contains;
using testing::HasSubstr;

const std::map<std::string, std::string> kHome = {{"HOME", "/home/someone"}};

std::string shipped(const char* name) {
  return settings_folder() + "/" + name;
}

std::vector<std::string> problems_with(const std::vector<std::string>& overrides) {
  std::vector<SettingProblem> problems;
  resolve_cluster_settings(
      {.file_name = "/etc/c.toml",
       .text = "[[router]]\nport=1\n[[memory]]\nport=2\nfabric_port=3\n[[memory]]\nport=4\nfabric_port=5\n"
               "[[agent]]\n[[agent.device]]\n[[agent.device]]\n",
       .overrides = overrides,
       .environment = kHome},
      problems);
  std::vector<std::string> messages;
  for (const SettingProblem& problem : problems) messages.push_back(problem.message());
  return messages;
}

TEST(ClusterSettings, the_local_file_is_two_routers_two_memory_servers_and_an_agent_with_two_host_devices) {
  const auto cluster = load_cluster_settings(shipped("local.toml"), {}, kHome);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  EXPECT_EQ(cluster->state_directory, "/home/someone/.local/state/cenote/local");
  EXPECT_EQ(cluster->routers.size(), 2u);
  ASSERT_EQ(cluster->memory.size(), 2u);
  EXPECT_EQ(cluster->memory[1].failure_domain, "memory-1");
  ASSERT_EQ(cluster->agents.size(), 1u);
  ASSERT_EQ(cluster->agents[0].devices.size(), 2u);
  EXPECT_EQ(cluster->agents[0].devices[1].name, "host:1");
  EXPECT_EQ(cluster->agents[0].cache_directory, "/dev/shm");
  EXPECT_TRUE(cluster->agents[0].cache_directory_auto);
  EXPECT_FALSE(load_cluster_settings(shipped("local.toml"), {"agent.cache_directory=/dev/shm"}, kHome)->agents[0].cache_directory_auto);
  EXPECT_EQ(cluster->replicas, 2u);
  EXPECT_EQ(cluster->group.bytes, 8u << 20);
  EXPECT_EQ(cluster->fabric_provider, "");
  EXPECT_NE(cluster->memory_server("memory-0"), nullptr);
  EXPECT_EQ(cluster->memory_server("memory-9"), nullptr);
}

TEST(ClusterSettings, the_emulated_file_has_two_devices_with_memory_of_their_own) {
  const auto cluster = load_cluster_settings(shipped("emulated.toml"),
                                             {"load.group=model", "agent.device.compute_ms=gpt2=4"}, kHome);
  ASSERT_TRUE(cluster.ok()) << cluster.status();
  ASSERT_EQ(cluster->agents[0].devices.size(), 2u);
  EXPECT_EQ(cluster->agents[0].devices[1].memory_bytes, 1u << 30);
  EXPECT_EQ(cluster->agents[0].devices[0].compute_ms.at("gpt2"), 4);
  EXPECT_EQ(cluster->group.kind, GroupSetting::Kind::kModel);
}

TEST(ClusterSettings, the_base_of_these_checks_is_right) {
  EXPECT_THAT(problems_with({}), testing::IsEmpty());
}

TEST(ClusterSettings, names_and_ports_that_collide_are_refused) {
  EXPECT_THAT(problems_with({"memory[1].name=router-0"}),
              Contains(HasSubstr("\"router-0\" is also router[0].name")));
  EXPECT_THAT(problems_with({"agent[0].name=controller"}), Contains(HasSubstr("choose another")));
  EXPECT_THAT(problems_with({"memory[0].name=supervisor"}), Contains(HasSubstr("choose another")));
  for (const char* host : {"controller.host=0.0.0.0", "router[0].host=::", "memory[0].host=0.0.0.0", "agent[0].host=::"})
    EXPECT_THAT(problems_with({host}), Contains(HasSubstr("every address"))) << host;
  EXPECT_THAT(problems_with({"agent[0].device[0].port=5"}),
              Contains(HasSubstr("127.0.0.1:5 is also memory[1].fabric_port")));
  EXPECT_THAT(problems_with({"agent.device.name=host:0"}),
              Contains(HasSubstr("is also agent[0].device[0].name")));
  EXPECT_THAT(problems_with({"agent[0].host=10.0.0.9", "agent[0].device[0].port=5"}), testing::IsEmpty());
}

TEST(ClusterSettings, what_routers_may_send_on_credit_has_room_at_the_executor) {
  EXPECT_THAT(problems_with({"agent.device.credits=65", "agent.device.queue_max=64"}), testing::IsEmpty());
  EXPECT_THAT(problems_with({"agent[0].device[1].credits=66", "agent.device.queue_max=64"}),
              Contains(HasSubstr("agent[0].device[1].credits: 66 requests on credit, but one runs and queue_max of 64 wait: "
                                 "lower it to 65 or raise queue_max")));
  // The default of one and a value of the other.
  EXPECT_THAT(problems_with({"agent.device.queue_max=2"}), Contains(HasSubstr("lower it to 3")));
}

TEST(ClusterSettings, memory_servers_of_one_host_do_not_share_a_folder) {
  EXPECT_THAT(problems_with({"memory[0].data_dir=/var/a", "memory[1].data_dir=/var/a"}),
              Contains(HasSubstr("/var/a is also memory[0].data_dir: each memory server needs a folder of its own")));
  EXPECT_THAT(problems_with({"memory[0].data_dir=/var/a", "memory[1].data_dir=/var/b"}), testing::IsEmpty());
  EXPECT_THAT(problems_with({"memory[0].data_dir=/var/a", "memory[1].data_dir=/var/a", "memory[1].host=10.0.0.9"}), testing::IsEmpty());
}

TEST(ClusterSettings, limits_that_do_not_fit_each_other_are_refused) {
  EXPECT_THAT(problems_with({"placement.replicas=3"}), Contains(HasSubstr("3 copies on 2 memory servers")));
  EXPECT_THAT(problems_with({"controller.member_timeout=500ms"}),
              Contains(HasSubstr("3 heartbeat intervals")));
  EXPECT_THAT(problems_with({"agent.read_size=300 KiB"}), Contains(HasSubstr("multiple of the chunk")));
  EXPECT_THAT(problems_with({"memory[0].capacity=64 MiB"}),
              Contains(HasSubstr("at most half of the capacity")));
  EXPECT_THAT(problems_with({"agent.cache_directory=cache"}), Contains(HasSubstr("not absolute")));
  EXPECT_THAT(problems_with({"memory[0].data_dir=blocks"}), Contains(HasSubstr("not absolute")));
}

TEST(ClusterSettings, a_device_refuses_keys_it_would_ignore) {
  EXPECT_THAT(problems_with({"agent[0].device[0].name=gpu0"}),
              Contains(HasSubstr("not host:N, emulated:N or cuda:N")));
  EXPECT_THAT(problems_with({"agent[0].device[0].name=host:-1"}), Contains(HasSubstr("not host:N")));
  EXPECT_THAT(problems_with({"agent[0].device[0].memory=1 GiB"}),
              Contains(HasSubstr("only emulated devices have it, this is host:0")));
  EXPECT_THAT(problems_with({"agent[0].device[0].name=emulated:0"}),
              Contains(HasSubstr("needs memory of its own")));
}

TEST(ClusterSettings, state_directories_resolve_against_environment_and_file) {
  std::vector<SettingProblem> problems;
  SettingsInput input{.file_name = "/etc/c.toml",
                      .text = "[[router]]\n[[memory]]\n[[agent]]\n[[agent.device]]\n",
                      .overrides = {},
                      .environment = {}};
  resolve_cluster_settings(input, problems);
  EXPECT_THAT(problems_status(problems).message(), HasSubstr("neither XDG_STATE_HOME nor HOME is set"));
  problems.clear();
  input.environment = {{"XDG_STATE_HOME", "/s"}, {"HOME", "/h"}};
  EXPECT_EQ(resolve_cluster_settings(input, problems).state_directory, "/s/cenote/local");
  input.overrides = {"cluster.state_directory=state/x"};
  EXPECT_EQ(resolve_cluster_settings(input, problems).state_directory, "/etc/state/x");
  input.overrides = {"cluster.state_directory=~/x"};
  EXPECT_EQ(resolve_cluster_settings(input, problems).state_directory, "/h/x");
  EXPECT_TRUE(problems.empty());
}

TEST(ClusterSettings, files_that_cannot_be_read_say_which) {
  EXPECT_TRUE(absl::IsNotFound(load_cluster_settings("/nowhere/c.toml", {}, kHome).status()));
  EXPECT_THAT(load_cluster_settings(testing::TempDir(), {}, kHome).status().message(),
              HasSubstr("is a directory"));
}

TEST(ClusterSettings, the_json_has_every_key_with_base_units) {
  const auto cluster = load_cluster_settings(shipped("local.toml"), {}, kHome);
  ASSERT_TRUE(cluster.ok());
  const auto json = nlohmann::json::parse(settings_json(*cluster));
  EXPECT_EQ(json["memory"][1]["capacity"], 2ull << 30);
  EXPECT_EQ(json["controller"]["heartbeat_interval"], 0.25);
  EXPECT_EQ(json["load"]["group"], 8u << 20);
  EXPECT_EQ(json["limits"]["deploy_lease"], 60.0);
  EXPECT_EQ(json["cluster"]["state_directory"], "/home/someone/.local/state/cenote/local");
  EXPECT_EQ(json["placement"]["replicas"], 2);
  EXPECT_EQ(json["agent"][0]["device"][1]["name"], "host:1");
}

}  // namespace
}  // namespace cenote
