// compare_output() and its kin: what a path holds against what a save would write there.
#include "flatbed/save_compare.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "base/bytes.hpp"
#include "base/str_cat.hpp"
#include "save/output_file.hpp"
#include "support/expect_error.hpp"
#include "support/temp_dir.hpp"

namespace flatbed {
namespace {

using test::read_file;
using test::TempDir;
using test::write_file;

constexpr std::size_t kChunk = 262'144;
using Place = flatbed::Run;  // every test has a Run() of its own

SaveItem u8_item(std::string name, std::string_view bytes) {
  return {std::move(name), Dtype::u8, {bytes.size()}, as_bytes(bytes)};
}

SavePlan plan_of(std::vector<SaveItem> items) {
  SavePlan plan;
  plan.items = std::move(items);
  return plan;
}

// The difference that is found, or the kind if there is none.
std::string found(const Result<OutputState>& state) {
  if (!state) return state.error().message;
  if (state->kind == OutputKind::different) return state->difference;
  return state->kind == OutputKind::absent ? "absent" : "up to date";
}

void flip(const std::filesystem::path& path, std::size_t offset) {
  std::string bytes = read_file(path);
  bytes[offset] = static_cast<char>(bytes[offset] ^ 1);
  write_file(path, bytes);
}

TEST(CompareOutput, NothingIsAbsent) {
  const TempDir dir;
  const SavePlan plan = plan_of({u8_item("w", "abc")});
  EXPECT_EQ(found(compare_output(dir / "a", plan)), "absent");
  EXPECT_EQ(found(compare_output(dir / "no/a", plan)), "absent");
  EXPECT_EQ(found(compare_torch_output(dir / "a", plan)), "absent");
}

TEST(CompareOutput, WhatWasSavedIsUpToDate) {
  const TempDir dir;
  const std::string large(3 * kChunk + 1, 'x');
  SavePlan plan = plan_of({u8_item("w", "abc"), u8_item("large", large), u8_item("empty", {})});
  plan.aliases.push_back({"v", "w"});
  for (const bool seal : {true, false}) {
    const Result<SaveReport> report = save(dir / "a", plan, {.seal = seal});
    ASSERT_OK(report);
    for (const CompareData data : {CompareData::sampled, CompareData::all}) {
      const Result<OutputState> state = compare_output(dir / "a", plan, {.seal = seal}, data);
      ASSERT_EQ(found(state), "up to date");
      EXPECT_EQ(state->content, report->content);
      EXPECT_EQ(state->nbytes, report->nbytes);
    }
    EXPECT_NE(found(compare_output(dir / "a", plan, {.seal = !seal})), "up to date");
  }
}

TEST(CompareOutput, AnEmptyPlanIsComparedByItsHeader) {
  const TempDir dir;
  ASSERT_OK(save(dir / "a", SavePlan()));
  EXPECT_EQ(found(compare_output(dir / "a", SavePlan())), "up to date");
  ASSERT_OK(save_torch(dir / "b", SavePlan()));
  EXPECT_EQ(found(compare_torch_output(dir / "b", SavePlan())), "up to date");
}

// The bytes of a small file that are tried; of long padding only some.
std::vector<std::size_t> bytes_to_flip(const std::string& file) {
  std::vector<std::size_t> offsets;
  for (std::size_t i = 0; i < file.size(); ++i) {
    const bool padding = i + 1 < file.size() && file[i] == file[i + 1];
    if (!padding || i % 97 == 0) offsets.push_back(i);
  }
  return offsets;
}

TEST(CompareOutput, EveryByteOfASmallFileCounts) {
  const TempDir dir;
  const SavePlan plan = plan_of({u8_item("w", "abc"), u8_item("v", "defg")});
  ASSERT_OK(save(dir / "a", plan));
  ASSERT_OK(save_torch(dir / "b", plan));
  for (const std::size_t i : bytes_to_flip(read_file(dir / "a"))) {
    flip(dir / "a", i);
    ASSERT_NE(found(compare_output(dir / "a", plan)), "up to date") << "byte " << i;
    flip(dir / "a", i);
  }
  for (const std::size_t i : bytes_to_flip(read_file(dir / "b"))) {
    flip(dir / "b", i);
    ASSERT_NE(found(compare_torch_output(dir / "b", plan)), "up to date") << "byte " << i;
    flip(dir / "b", i);
  }
  EXPECT_EQ(found(compare_output(dir / "a", plan)), "up to date");
  EXPECT_EQ(found(compare_torch_output(dir / "b", plan)), "up to date");
}

TEST(CompareOutput, TheDifferenceIsNamed) {
  const TempDir dir;
  const SavePlan plan = plan_of({u8_item("w", "abc")});
  ASSERT_OK(save(dir / "a", plan));
  EXPECT_EQ(found(compare_output(dir / "a", plan_of({u8_item("w", "abd")}))),
            "tensor 'w': bytes [0,3) differ");
  EXPECT_EQ(found(compare_output(dir / "a", plan_of({u8_item("v", "abc")}))), "the header differs");
  EXPECT_EQ(found(compare_output(dir / "a", plan_of({u8_item("w", "ab")}))),
            "found 4099 bytes, expected 4098");
  flip(dir / "a", 40);
  EXPECT_EQ(found(compare_output(dir / "a", plan)), "the seal does not match the header");
}

TEST(CompareOutput, ALinkCountsAsWhatItLeadsTo) {
  const TempDir dir;
  const SavePlan plan = plan_of({u8_item("w", "abc")});
  std::filesystem::create_symlink("b", dir / "a");
  EXPECT_EQ(found(compare_output(dir / "a", plan)), "found a symbolic link that leads nowhere");
  ASSERT_OK(save(dir / "b", plan));
  EXPECT_EQ(found(compare_output(dir / "a", plan)), "up to date");
}

TEST(CompareOutput, ADirectoryIsAnError) {
  const TempDir dir;
  std::filesystem::create_directory(dir / "a");
  const Result<OutputState> state = compare_output(dir / "a", SavePlan());
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code, ErrorCode::not_a_regular_file);
}

TEST(CompareOutput, ADamagedSealedSourceIsAnError) {
  const TempDir dir;
  ASSERT_OK(save(dir / "a", plan_of({u8_item("w", "abc")})));
  flip(dir / "a", 4096);
  const Result<Checkpoint> source = Checkpoint::open(dir / "a");
  ASSERT_OK(source);
  const Result<SavePlan> plan = make_plan(*source);
  ASSERT_OK(plan);
  std::filesystem::copy_file(dir / "a", dir / "b");
  const Result<OutputState> state = compare_output(dir / "b", *plan);
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code, ErrorCode::chunk_corrupt);
}

TEST(CompareOutput, MayBeCancelled) {
  const TempDir dir;
  const SavePlan plan = plan_of({u8_item("w", "abc")});
  ASSERT_OK(save(dir / "a", plan));
  const std::atomic<bool> cancel = true;
  const Result<OutputState> state = compare_output(dir / "a", plan, {.cancel = &cancel});
  ASSERT_FALSE(state);
  EXPECT_EQ(state.error().code, ErrorCode::cancelled);
}

TEST(CompareSidecar, EveryByteOfFileAndSidecarCounts) {
  const TempDir dir;
  const std::filesystem::path sidecar = dir / "a.flatbed.json";
  ASSERT_OK(save(dir / "a", plan_of({u8_item("w", "abc"), u8_item("v", "defg")}), {.seal = false}));
  EXPECT_EQ(found(compare_sidecar(dir / "a")), "absent");
  const Result<SaveReport> report = save_sidecar(dir / "a");
  ASSERT_OK(report);
  const Result<OutputState> state = compare_sidecar(dir / "a");
  ASSERT_EQ(found(state), "up to date");
  EXPECT_EQ(state->content, report->content);
  for (const std::size_t i : bytes_to_flip(read_file(sidecar))) {
    flip(sidecar, i);
    ASSERT_NE(found(compare_sidecar(dir / "a")), "up to date") << "byte " << i;
    flip(sidecar, i);
  }
  flip(dir / "a", 4096);
  EXPECT_EQ(found(compare_sidecar(dir / "a")), "tensor 'v': bytes [0,4) differ");
}

std::vector<Place> places_of(const std::vector<std::uint64_t>& sizes) {
  std::vector<Place> places;
  std::uint64_t offset = 4096;
  for (std::uint32_t i = 0; i < sizes.size(); ++i) {
    places.push_back({i, 0, offset, sizes[i]});
    offset += sizes[i];
  }
  return places;
}

std::uint64_t sampled_nbytes(const std::vector<Sample>& samples) {
  std::uint64_t nbytes = 0;
  for (const Sample& sample : samples) nbytes += sample.nbytes;
  return nbytes;
}

TEST(ChooseSamples, UpTo256ChunksAreAllSamples) {
  const std::vector<Place> places = places_of({0, 255 * kChunk, 1});
  EXPECT_EQ(sampled_nbytes(choose_samples(places, CompareData::sampled)), 255 * kChunk + 1);
}

TEST(ChooseSamples, OfMoreChunksAtMost256WithTheFirstAndTheLastOfData) {
  const std::vector<Place> places = places_of({1000 * kChunk, 7, 5000 * kChunk + 3});
  const std::vector<Sample> samples = choose_samples(places, CompareData::sampled);
  EXPECT_LE(samples.size(), 256u);
  EXPECT_GE(samples.size(), 128u);
  EXPECT_EQ(samples.front().offset, 4096u);
  EXPECT_EQ(samples.back().place, 2u);
  EXPECT_EQ(samples.back().first_chunk, 5000u);
  EXPECT_EQ(samples.back().nbytes, 3u);
  std::vector<std::uint32_t> seen;
  for (const Sample& sample : samples) {
    const Place& place = places[sample.place];
    EXPECT_EQ(sample.offset, place.offset + sample.first_chunk * kChunk);
    EXPECT_LE(sample.nbytes, kChunk);
    if (seen.empty() || seen.back() != sample.place) seen.push_back(sample.place);
  }
  EXPECT_EQ(seen, (std::vector<std::uint32_t>{0, 1, 2}));
}

TEST(ChooseSamples, AThousandSmallTensorsAreThinnedOutWithTheFirstAndTheLast) {
  const std::vector<Place> places = places_of(std::vector<std::uint64_t>(1000, 64));
  const std::vector<Sample> samples = choose_samples(places, CompareData::sampled);
  EXPECT_LE(samples.size(), 256u);
  EXPECT_EQ(samples.front().place, 0u);
  EXPECT_EQ(samples.back().place, 999u);
}

TEST(ChooseSamples, AllDataIsEveryTensorWhole) {
  const std::vector<Place> places = places_of({1000 * kChunk, 0, 7});
  const std::vector<Sample> samples = choose_samples(places, CompareData::all);
  ASSERT_EQ(samples.size(), 2u);
  EXPECT_EQ(sampled_nbytes(samples), 1000 * kChunk + 7);
}

}  // namespace
}  // namespace flatbed
