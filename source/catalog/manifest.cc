// The binary frame of a manifest: header, section table, blocks and files.
#include "catalog/manifest.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/status.h"
#include "base/text.h"
#include "catalog/manifest_impl.h"

namespace cenote {
namespace {

constexpr std::string_view kMagic = "CENOTEM1";
constexpr uint32_t kVersion = 1;
constexpr uint32_t kSections = 4;
constexpr size_t kHeaderBytes = 8 + 4 + 4 + kSections * 24;
constexpr size_t kBlockFixedBytes = 32 + 4 + 4;
enum Section : size_t { kBlocks = 0, kFiles = 1, kTensors = 2, kGraph = 3 };

absl::Status bad(std::string_view what) {
  return absl::InvalidArgumentError(str_cat("manifest: ", what));
}

void write_blocks(ByteWriter& out, const std::vector<BlockEntry>& blocks) {
  for (const BlockEntry& block : blocks) {
    out.raw(block.ref.id.bytes.data(), block.ref.id.bytes.size());
    out.u32(block.ref.size_bytes);
    out.u32(static_cast<uint32_t>(block.chunk_sums.size()));
    for (uint64_t sum : block.chunk_sums) out.u64(sum);
  }
}

absl::StatusOr<std::vector<BlockEntry>> read_blocks(ByteReader& in, uint64_t count, std::string_view what) {
  if (!in.ok() || count > in.left() / kBlockFixedBytes) {
    return bad(str_cat(what, ": ", count, " blocks do not fit into ", in.left(), " bytes"));
  }
  std::vector<BlockEntry> blocks(count);
  for (uint64_t i = 0; i < count; ++i) {
    in.raw(blocks[i].ref.id.bytes.data(), 32);
    blocks[i].ref.size_bytes = in.u32();
    const uint32_t chunks = in.u32();
    if (!in.ok() || chunks > kBlockBytesMax / kChunkBytes || chunks > in.left() / 8) {
      return bad(str_cat(what, ": block ", i, " has ", chunks, " chunks, at most ",
                         kBlockBytesMax / kChunkBytes, " and what is left of the section"));
    }
    blocks[i].chunk_sums.resize(chunks);
    for (uint64_t& sum : blocks[i].chunk_sums) sum = in.u64();
  }
  if (!in.ok()) return bad(str_cat(what, ": truncated"));
  return blocks;
}

absl::StatusOr<std::vector<BlockEntry>> decode_blocks(std::string_view section) {
  ByteReader in(section);
  const uint64_t count = in.u64();
  CENOTE_ASSIGN_OR_RETURN(std::vector<BlockEntry> blocks, read_blocks(in, count, "blocks"));
  if (!in.done()) return bad(str_cat("blocks: ", in.left(), " bytes too many"));
  CENOTE_RETURN_IF_ERROR(check_blocks(blocks, true, "blocks"));
  return blocks;
}

absl::StatusOr<std::vector<FileEntry>> decode_files(std::string_view section) {
  ByteReader in(section);
  const uint64_t count = in.u64();
  if (!in.ok() || count > kFilesMax) return bad(str_cat(count, " files, at most ", kFilesMax));
  std::vector<FileEntry> files(count);
  for (FileEntry& file : files) {
    file.name = in.text(kFileNameBytesMax);
    file.size_bytes = in.u64();
    const uint32_t blocks = in.u32();
    CENOTE_ASSIGN_OR_RETURN(file.blocks, read_blocks(in, blocks, "files"));
    CENOTE_RETURN_IF_ERROR(check_blocks(file.blocks, false, "files"));
  }
  if (!in.done()) return bad(str_cat("files: ", in.left(), " bytes too many"));
  return files;
}

std::string encode_blocks(const Manifest& manifest) {
  ByteWriter out;
  out.u64(manifest.blocks.size());
  write_blocks(out, manifest.blocks);
  return out.take();
}

std::string encode_files(const Manifest& manifest) {
  ByteWriter out;
  out.u64(manifest.files.size());
  for (const FileEntry& file : manifest.files) {
    out.text(file.name);
    out.u64(file.size_bytes);
    out.u32(static_cast<uint32_t>(file.blocks.size()));
    write_blocks(out, file.blocks);
  }
  return out.take();
}

// The four sections, in order, without gaps, to the end.
absl::StatusOr<std::vector<std::string_view>> split_sections(std::string_view bytes) {
  if (bytes.size() > kManifestBytesMax)
    return bad(str_cat(bytes.size(), " bytes, at most ", kManifestBytesMax));
  if (bytes.size() < kHeaderBytes || !bytes.starts_with(kMagic))
    return bad(str_cat("not a manifest: it does not begin with ", kMagic));
  ByteReader in(bytes.substr(kMagic.size(), kHeaderBytes - kMagic.size()));
  if (const uint32_t version = in.u32(); version != kVersion) {
    return bad(
        str_cat("version ", version, ", this Cenote reads ", kVersion, ": use the Cenote that wrote it"));
  }
  if (const uint32_t count = in.u32(); count != kSections)
    return bad(str_cat(count, " sections, version 1 has ", kSections));
  std::vector<std::string_view> sections;
  uint64_t end = kHeaderBytes;
  for (uint32_t i = 0; i < kSections; ++i) {
    const uint32_t kind = in.u32(), zero = in.u32();
    const uint64_t offset = in.u64(), length = in.u64();
    if (kind != i + 1 || zero != 0)
      return bad(str_cat("section ", i, " has kind ", kind, ", expected ", i + 1));
    if (offset != end || length > bytes.size() - end) {
      return bad(str_cat("section ", kind, " at ", offset, " with ", length, " bytes: expected at ", end,
                         ", ", bytes.size() - end, " bytes left"));
    }
    sections.push_back(bytes.substr(offset, length));
    end += length;
  }
  if (end != bytes.size()) return bad(str_cat(bytes.size() - end, " bytes after the last section"));
  return sections;
}

}  // namespace

uint64_t Manifest::range_bytes() const {
  return blocks.empty()
             ? 0
             : blocks.back().offset_bytes + round_up(blocks.back().ref.size_bytes, kBlockAlignBytes);
}

std::string encode_manifest(const Manifest& manifest) {
  const std::string sections[kSections] = {encode_blocks(manifest), encode_files(manifest),
                                           encode_tensor_section(manifest), manifest.graph};
  ByteWriter out;
  out.raw(kMagic.data(), kMagic.size());
  out.u32(kVersion);
  out.u32(kSections);
  uint64_t offset = kHeaderBytes;
  for (uint32_t i = 0; i < kSections; ++i) {
    out.u32(i + 1);
    out.u32(0);
    out.u64(offset);
    out.u64(sections[i].size());
    offset += sections[i].size();
  }
  CENOTE_CHECK(out.size() == kHeaderBytes);
  for (const std::string& section : sections) out.raw(section.data(), section.size());
  return out.take();
}

absl::StatusOr<Manifest> decode_manifest(std::string_view bytes) {
  CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string_view> sections, split_sections(bytes));
  Manifest manifest;
  CENOTE_ASSIGN_OR_RETURN(manifest.blocks, decode_blocks(sections[kBlocks]));
  CENOTE_ASSIGN_OR_RETURN(manifest.files, decode_files(sections[kFiles]));
  CENOTE_RETURN_IF_ERROR(decode_tensor_section(sections[kTensors], manifest));
  manifest.graph = sections[kGraph];
  CENOTE_RETURN_IF_ERROR(check_manifest(manifest));
  return manifest;
}

absl::StatusOr<std::vector<BlockEntry>> decode_manifest_blocks(std::string_view bytes) {
  CENOTE_ASSIGN_OR_RETURN(const std::vector<std::string_view> sections, split_sections(bytes));
  return decode_blocks(sections[kBlocks]);
}

std::vector<uint64_t> chunk_sums(std::span<const std::byte> block) {
  std::vector<uint64_t> sums;
  for (size_t offset = 0; offset < block.size(); offset += kChunkBytes) {
    sums.push_back(xxh3_64(block.subspan(offset, std::min<size_t>(kChunkBytes, block.size() - offset))));
  }
  return sums;
}

}  // namespace cenote
