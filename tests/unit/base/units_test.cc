// Goal: ids, hashes, units, names and random numbers mean the same on every machine and refuse what is not
// one of them.
#include "base/units.h"

#include <gtest/gtest.h>

#include "base/bytes.h"
#include "base/hash.h"
#include "base/ids.h"
#include "base/nearest.h"
#include "base/rng.h"
#include "base/status.h"
#include "base/utf8.h"

namespace cenote {
namespace {

TEST(Units, sizes_read_as_people_write_them) {
  EXPECT_EQ(*parse_bytes("512"), 512u);
  EXPECT_EQ(*parse_bytes("64 KiB"), 64u << 10);
  EXPECT_EQ(*parse_bytes("1.5GiB"), 3ull << 29);
  EXPECT_EQ(*parse_bytes(" 2GB "), 2'000'000'000u);
  for (int unit = 10; unit <= 60; unit += 10) EXPECT_EQ(*parse_bytes(format_bytes(1ull << unit)), 1ull << unit);
}

TEST(Units, what_is_not_a_size_is_refused_with_a_remedy) {
  for (const char* text : {"", "GiB", "-1", "1 gib", "1e400 B", "99999999999 TiB", "1 2", "nan", "0x10"}) {
    const auto parsed = parse_bytes(text);
    ASSERT_FALSE(parsed.ok()) << text;
    EXPECT_NE(parsed.status().message().find("8 MiB"), std::string::npos);
  }
}

TEST(Units, durations_need_their_unit) {
  EXPECT_EQ(parse_duration("250ms")->ns, 250'000'000);
  EXPECT_EQ(parse_duration("2min")->ns, 120'000'000'000);
  for (const char* text : {"", "5", "5 sec", "-1s", "1e300h"})
    EXPECT_FALSE(parse_duration(text).ok()) << text;
}

TEST(Clock, adding_to_the_far_future_stays_there) {
  EXPECT_EQ(Instant::infinite_future() + Duration::from_seconds(1), Instant::infinite_future());
  EXPECT_EQ((Instant{5} + Duration{7}) - Instant{2}, Duration{10});
}

TEST(Hash, the_two_hashes_give_their_published_values) {
  EXPECT_EQ(sha256(as_bytes("abc")).hex(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(xxh3_64({}), 0x2d06800538d394c2ull);
  Sha256 streamed;
  streamed.update(as_bytes("a"));
  streamed.update(as_bytes("bc"));
  EXPECT_EQ(streamed.finish(), sha256(as_bytes("abc")));
}

TEST(Ids, a_digest_survives_its_text_and_refuses_others) {
  const Digest digest = sha256(as_bytes("x"));
  EXPECT_EQ(*Digest::from_hex(digest.hex()), digest);
  EXPECT_FALSE(Digest::from_hex("abc").ok());
  EXPECT_FALSE(Digest::from_hex(std::string(64, 'g')).ok());
}

TEST(Rng, a_seed_gives_the_same_sequence_everywhere) {
  Rng rng(1);
  EXPECT_EQ(rng.next(), 0xb3f2af6d0fc710c5ull);
  EXPECT_EQ(rng.next(), 0x853b559647364ceaull);
  for (int i = 0; i < 1000; ++i) EXPECT_LT(rng.below(7), 7u);
}

TEST(Status, every_code_has_the_exit_code_of_the_design) {
  EXPECT_EQ(exit_code(absl::StatusCode::kOk), 0);
  EXPECT_EQ(exit_code(absl::StatusCode::kInvalidArgument), 2);
  EXPECT_EQ(exit_code(absl::StatusCode::kUnavailable), 3);
  EXPECT_EQ(exit_code(absl::StatusCode::kNotFound), 4);
  EXPECT_EQ(exit_code(absl::StatusCode::kDataLoss), 5);
  EXPECT_EQ(exit_code(absl::StatusCode::kResourceExhausted), 6);
  EXPECT_EQ(exit_code(absl::StatusCode::kPermissionDenied), 7);
  EXPECT_EQ(exit_code(absl::StatusCode::kDeadlineExceeded), 124);
  EXPECT_EQ(exit_code(absl::StatusCode::kCancelled), 130);
  EXPECT_EQ(exit_code(absl::StatusCode::kInternal), 1);
}

TEST(Nearest, a_typing_error_finds_its_name_and_nonsense_finds_none) {
  EXPECT_EQ(edit_distance("kitten", "sitting"), 3u);
  EXPECT_EQ(edit_distance("prot", "port"), 1u);  // Swapped neighbours are one edit.
  EXPECT_EQ(edit_distance("", "abc"), 3u);
  const std::vector<std::string> names = {"port", "host", "capacity"};
  EXPECT_EQ(nearest_name("capactiy", names), "capacity");
  EXPECT_EQ(nearest_name("zzzzzzzz", names), "");
  EXPECT_EQ(nearest_name(std::string(1000, 'p'), names), "");
  EXPECT_EQ(nearest_name("pot", names), "port");
  EXPECT_EQ(nearest_name("hort", names), "port");  // Of two that are as near, the first.
  EXPECT_EQ(nearest_name("host", names), "host");
}

TEST(Nearest, of_very_many_names_only_the_first_are_compared) {
  std::vector<std::string> names(1'000, std::string(100, 'a'));
  names.front() = std::string(99, 'x');
  names.back() = std::string(100, 'x');
  EXPECT_EQ(nearest_name(std::string(100, 'x'), names), names.front());
}

TEST(Utf8, only_shortest_forms_without_control_characters_are_text) {
  for (const char* text : {"", "plain", "gr\xc3\xbc\xc3\x9f", "\xe2\x82\xac", "\xf0\x9f\x99\x82"})
    EXPECT_TRUE(plain_utf8(text)) << text;
  for (const char* text : {"\n", "\x7f", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                           "\xf4\x90\x80\x80", "\xff", "\x80", "\xc2\x85"}) {
    EXPECT_FALSE(plain_utf8(text)) << testing::PrintToString(std::string(text));
  }
}

TEST(Bytes, what_was_written_is_read_and_nothing_beyond) {
  ByteWriter out;
  out.u8(1);
  out.u32(0x04030201);
  out.u64(UINT64_MAX);
  out.i64(-5);
  out.text("ab");
  const std::string bytes = out.take();
  EXPECT_EQ(bytes.substr(1, 4), "\x01\x02\x03\x04");
  ByteReader in(bytes);
  EXPECT_EQ(in.u8(), 1);
  EXPECT_EQ(in.u32(), 0x04030201u);
  EXPECT_EQ(in.u64(), UINT64_MAX);
  EXPECT_EQ(in.i64(), -5);
  EXPECT_EQ(in.text(2), "ab");
  EXPECT_TRUE(in.done());
  EXPECT_EQ(in.u32(), 0u);
  EXPECT_FALSE(in.ok());
  EXPECT_EQ(in.left(), 0u);
  ByteReader short_text(std::string_view(bytes).substr(21, 6));
  EXPECT_EQ(short_text.text(1), "");
  EXPECT_FALSE(short_text.ok());
}

}  // namespace
}  // namespace cenote
