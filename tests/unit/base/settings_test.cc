// Goal: settings resolve from file, environment and flags in that order, and everything wrong is named at
// once with its place, value, limit and remedy.
#include "base/settings.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/settings_schema.h"
#include "folders.h"

namespace cenote {
namespace {

using testing::HasSubstr;

constexpr const char* kMinimal = "[[router]]\n[[memory]]\n[[agent]]\n[[agent.device]]\n";

SettingsInput input_of(std::string text) {
  return {.file_name = "cluster.toml", .text = std::move(text), .overrides = {}, .environment = {}};
}

Settings resolve_ok(const SettingsInput& input) {
  std::vector<SettingProblem> problems;
  Settings settings = Settings::resolve(input, problems);
  EXPECT_EQ(problems_status(problems).message(), "");
  return settings;
}

std::vector<std::string> problems_of(const SettingsInput& input) {
  std::vector<SettingProblem> problems;
  Settings::resolve(input, problems);
  std::vector<std::string> messages;
  for (const SettingProblem& problem : problems) messages.push_back(problem.message());
  return messages;
}

TEST(Settings, what_a_file_leaves_out_has_its_default) {
  const Settings settings = resolve_ok(input_of(kMinimal));
  EXPECT_EQ(settings.integer("controller.port"), 7700);
  EXPECT_EQ(settings.duration("controller.heartbeat_interval"), Duration::from_ms(250));
  EXPECT_EQ(settings.bytes("agent[0].cache_capacity"), 2ull << 30);
  EXPECT_EQ(settings.text("router[0].name"), "router-0");
  EXPECT_EQ(settings.text("agent[0].device[0].name"), "host:0");
  EXPECT_EQ(settings.origin("controller.port"), "default");
  EXPECT_EQ(settings.count("agent[0].device"), 1u);
}

TEST(Settings, every_type_reads_from_a_file_with_its_line) {
  const Settings settings =
      resolve_ok(input_of("[load]\ngroup = \"layer\"\n[[router]]\n[[memory]]\ncapacity = \"64 "
                          "MiB\"\nhuge_pages = \"off\"\n[[agent]]\nlink_gb_per_s = 1\n"
                          "[[agent.device]]\nmodels = [\"a\", \"b\"]\n[agent.device.compute_ms]\nresnet152 = "
                          "8.5\n\"gpt.2\" = 3\n"));
  EXPECT_EQ(settings.text("load.group"), "layer");
  EXPECT_EQ(settings.bytes("memory[0].capacity"), 64u << 20);
  EXPECT_EQ(settings.number("agent[0].link_gb_per_s"), 1.0);
  EXPECT_EQ(settings.strings("agent[0].device[0].models"), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(settings.numbers("agent[0].device[0].compute_ms"),
            (std::map<std::string, double>{{"resnet152", 8.5}, {"gpt.2", 3}}));
  EXPECT_EQ(settings.origin("memory[0].capacity"), "cluster.toml:5");
}

TEST(Settings, environment_overrides_the_file_and_flags_override_both) {
  SettingsInput input =
      input_of(std::string("[controller]\nport = 1000\n[log]\nlevel = \"error\"\n") + kMinimal);
  input.environment = {{"CENOTE_CONTROLLER_PORT", "2000"},
                       {"CENOTE_LOG_LEVEL", "debug"},
                       {"PATH", "/bin"},
                       {"CENOTE_CLUSTER", "h:1"}};
  input.overrides = {"controller.port=3000"};
  const Settings settings = resolve_ok(input);
  EXPECT_EQ(settings.integer("controller.port"), 3000);
  EXPECT_EQ(settings.origin("controller.port"), "flag controller.port=3000");
  EXPECT_EQ(settings.text("log.level"), "debug");
  EXPECT_EQ(settings.origin("log.level"), "environment CENOTE_LOG_LEVEL");
}

TEST(Settings, a_name_without_index_means_all_tables_and_an_index_wins) {
  SettingsInput input =
      input_of("[[router]]\n[[memory]]\n[[memory]]\n[[agent]]\n[[agent.device]]\n[[agent.device]]\n");
  input.environment = {{"CENOTE_AGENT_0_DEVICE_1_THREADS", "3"}, {"CENOTE_AGENT_DEVICE_THREADS", "2"}};
  input.overrides = {"memory.capacity=1 GiB", "memory[1].capacity=3 GiB", "agent.device[0].models=a,b",
                     "agent.device.compute_ms=a=1,b=2.5"};
  const Settings settings = resolve_ok(input);
  EXPECT_EQ(settings.integer("agent[0].device[0].threads"), 2);
  EXPECT_EQ(settings.integer("agent[0].device[1].threads"), 3);
  EXPECT_EQ(settings.bytes("memory[0].capacity"), 1ull << 30);
  EXPECT_EQ(settings.bytes("memory[1].capacity"), 3ull << 30);
  EXPECT_EQ(settings.strings("agent[0].device[0].models").size(), 2u);
  EXPECT_EQ(settings.numbers("agent[0].device[1].compute_ms").at("b"), 2.5);
}

TEST(Settings, unknown_keys_are_refused_with_the_nearest_name) {
  EXPECT_THAT(problems_of(input_of("[controler]\nport = 1\n[[router]]\nqueue_mx = "
                                   "1\n[[memory]]\n[[agent]]\n[[agent.device]]\ncopy_gbps=1\n")),
              testing::UnorderedElementsAre(
                  "cluster.toml:1: controler: there is no such setting, did you mean 'controller'?",
                  "cluster.toml:4: router[0].queue_mx: there is no such setting, did you mean 'queue_max'?",
                  "cluster.toml:8: agent[0].device[0].copy_gbps: there is no such setting, did you mean "
                  "'copy_gb_per_s'?"));
}

TEST(Settings, impossible_values_are_refused_all_at_once_with_value_limit_and_remedy) {
  const auto problems =
      problems_of(input_of("[controller]\nport = 70000\nheartbeat_interval = 250\n[placement]\npolicy = "
                           "\"hybird\"\n[log]\nlevel = 3\n[[router]]\nhost = \"a b\"\n"
                           "[[memory]]\ncapacity = \"1 KiB\"\nslabs_max = 1.5\n[[agent]]\nlink_gb_per_s = "
                           "nan\n[[agent.device]]\nmodels = [1]\n"));
  ASSERT_EQ(problems.size(), 9u) << testing::PrintToString(problems);
  EXPECT_THAT(problems,
              testing::Contains("cluster.toml:2: controller.port: 70000 is too large: use 1 to 65535"));
  EXPECT_THAT(problems, testing::Contains(HasSubstr(
                            "cluster.toml:3: controller.heartbeat_interval: a duration needs its unit")));
  EXPECT_THAT(problems, testing::Contains(
                            HasSubstr("use per-app, horizontal, vertical, hybrid, did you mean 'hybrid'?")));
  EXPECT_THAT(problems,
              testing::Contains(HasSubstr(
                  "cluster.toml:11: memory[0].capacity: 1.0 KiB is too small: use 16 MiB to 16 TiB")));
}

TEST(Settings, bad_environment_and_flags_are_refused_by_name) {
  SettingsInput input = input_of(kMinimal);
  input.environment = {{"CENOTE_CONTROLLER_PROT", "1"}, {"CENOTE_MEMORY_7_PORT", "1"}};
  input.overrides = {"nonsense", "controller=1", "log.levle=info", "agent[x].port=1", "controller.port=many"};
  const auto problems = problems_of(input);
  ASSERT_EQ(problems.size(), 7u) << testing::PrintToString(problems);
  EXPECT_THAT(problems[0], HasSubstr("CENOTE_CONTROLLER_PORT"));
  EXPECT_THAT(problems[1], HasSubstr("there are 1 [[memory]] tables"));
  EXPECT_THAT(problems[2], HasSubstr("KEY=VALUE"));
  EXPECT_THAT(problems[3], HasSubstr("this is a table"));
  EXPECT_THAT(problems[4], HasSubstr("did you mean 'level'?"));
  EXPECT_THAT(problems[5], HasSubstr("number in brackets"));
  EXPECT_THAT(problems[6], HasSubstr("whole number"));
}

TEST(Settings, broken_toml_is_refused_with_line_and_column_and_nothing_else) {
  const auto problems = problems_of(input_of("[cluster]\nname = \"x\nport = 1\n"));
  ASSERT_EQ(problems.size(), 1u);
  EXPECT_THAT(problems[0], HasSubstr("cluster.toml:2:"));
}

TEST(Settings, wrong_brackets_missing_tables_and_large_files_are_refused) {
  EXPECT_THAT(problems_of(input_of("[router]\n[[memory]]\n[[agent]]\n[[agent.device]]\n")),
              testing::Contains(HasSubstr("write [[router]], with two brackets")));
  EXPECT_THAT(problems_of(input_of("[[router]]\n[[agent]]\n")),
              testing::UnorderedElementsAre(HasSubstr("add [[memory]]"), HasSubstr("add [[agent.device]]")));
  EXPECT_THAT(problems_of(input_of(std::string(kSettingsFileBytesMax + 1, '#'))),
              testing::ElementsAre(HasSubstr("at most 1.0 MiB")));
}

// Defaults and examples are checked against their own limits while the schema is read; here: that every key
// says what it is.
TEST(SettingsSchema, every_key_is_described_and_has_an_example) {
  size_t keys = 0;
  const auto visit = [&](const auto& self, const SettingTable& table) -> void {
    for (const SettingKey& key : table.keys) {
      ++keys;
      EXPECT_GE(key.description.size(), 10u) << table.name << "." << key.name;
      EXPECT_TRUE(key.description.ends_with(".")) << table.name << "." << key.name;
      EXPECT_FALSE(key.example.empty());
      const bool bounded = key.type == SettingType::kInteger || key.type == SettingType::kNumber ||
                           key.type == SettingType::kBytes || key.type == SettingType::kDuration ||
                           key.type == SettingType::kGroup || key.type == SettingType::kNumbers;
      EXPECT_EQ(bounded, key.min.has_value() && key.max.has_value()) << table.name << "." << key.name;
    }
    for (const SettingTable& child : table.tables) self(self, child);
  };
  visit(visit, settings_schema());
  EXPECT_GT(keys, 40u);
}

TEST(SettingsSchema, the_reference_page_is_the_one_the_schema_makes) {
  const std::string path = settings_folder() + "/REFERENCE.md";
  if (std::getenv("UPDATE_GOLDEN") != nullptr) std::ofstream(path) << settings_reference();
  std::ostringstream page;
  page << std::ifstream(path).rdbuf();
  EXPECT_EQ(page.str(), settings_reference())
      << "stale: run this test with UPDATE_GOLDEN=1 and commit " << path;
}

}  // namespace
}  // namespace cenote
