/*
 * What libpmem takes to do what an append to a pool of medium pmem does: the
 * CRC32C of some bytes, and then pmem_memcpy_persist of them, round and round in a
 * mapped file. Run by `graven bench pmem --baseline`; built by `make bench-baseline`.
 *
 *   pmem_baseline FOLDER [MILLISECONDS [RING_MIB [WHAT SIZE]]]
 *
 * WHAT is append, copy or crc; without it everything is measured. A line of
 * output is: WHAT SIZE NANOSECONDS, of one operation on SIZE bytes.
 *
 *   append  CRC32C of SIZE bytes, then pmem_memcpy_persist of the same bytes
 *   copy    a copy of SIZE bytes with non-temporal stores, and a drain. Before each, and
 *           not counted, the bytes are gone through, as a batch that is appended has
 *           just been made: a copy in an endless row of copies takes half as long as one
 *           after a pause, in whatever the processor does meanwhile
 *   crc     CRC32C of SIZE bytes alone
 *
 * On a folder that is not persistent memory libpmem would use msync. To measure
 * its instructions there, set PMEM_IS_PMEM_FORCE=1.
 */
#include <errno.h>
#include <libpmem.h>
#include <nmmintrin.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LONG = 4096, SHORT = 256, MAX_SIZE = 1 << 20 };

static const uint32_t poly = 0x82f63b78; /* Castagnoli, reflected */

/* after[n][b] is what byte n of a CRC, being b, becomes behind so many zeroes. */
static uint32_t after_long[4][256], after_short[4][256];

static void make_table(uint32_t table[4][256], size_t zeroes) {
  uint32_t unit[32]; /* of each bit */
  for (int bit = 0; bit < 32; bit++) {
    uint32_t crc = 1u << bit;
    for (size_t i = 0; i < 8 * zeroes; i++) crc = crc >> 1 ^ (crc & 1 ? poly : 0);
    unit[bit] = crc;
  }
  for (int n = 0; n < 4; n++)
    for (int b = 0; b < 256; b++) {
      table[n][b] = 0;
      for (int bit = 0; bit < 8; bit++)
        if (b >> bit & 1) table[n][b] ^= unit[8 * n + bit];
    }
}

static uint32_t shift(uint32_t table[4][256], uint32_t crc) {
  return table[0][crc & 0xff] ^ table[1][crc >> 8 & 0xff] ^ table[2][crc >> 16 & 0xff] ^ table[3][crc >> 24];
}

static uint64_t word(const unsigned char *p) {
  uint64_t w;
  memcpy(&w, p, sizeof w);
  return w;
}

/* Three streams side by side: the instruction takes three cycles, and one can
 * begin in each. */
static const unsigned char *streams(uint64_t *crc, const unsigned char *p, size_t *n, size_t span, uint32_t table[4][256]) {
  while (*n >= 3 * span) {
    uint64_t a = *crc, b = 0, c = 0;
    for (const unsigned char *end = p + span; p < end; p += 8) {
      a = _mm_crc32_u64(a, word(p));
      b = _mm_crc32_u64(b, word(p + span));
      c = _mm_crc32_u64(c, word(p + 2 * span));
    }
    *crc = shift(table, shift(table, (uint32_t)a) ^ (uint32_t)b) ^ c;
    p += 2 * span;
    *n -= 3 * span;
  }
  return p;
}

static uint32_t crc32c(const void *bytes, size_t n) {
  const unsigned char *p = bytes;
  uint64_t crc = 0xffffffff;
  p = streams(&crc, p, &n, LONG, after_long);
  p = streams(&crc, p, &n, SHORT, after_short);
  for (; n >= 8; p += 8, n -= 8) crc = _mm_crc32_u64(crc, word(p));
  for (; n > 0; p++, n--) crc = _mm_crc32_u8((uint32_t)crc, *p);
  return (uint32_t)crc ^ 0xffffffff;
}

/* check compares the streams with what goes byte by byte. */
static void check(const unsigned char *src) {
  for (size_t n = 0; n < 40000; n += 1 + n / 3) {
    uint32_t crc = 0xffffffff;
    for (size_t i = 0; i < n; i++) crc = _mm_crc32_u8(crc, src[i]);
    if (crc32c(src, n) != (crc ^ 0xffffffff)) {
      fprintf(stderr, "pmem_baseline: the CRC of %zu bytes is wrong\n", n);
      exit(1);
    }
  }
  if (crc32c("123456789", 9) != 0xe3069283) {
    fprintf(stderr, "pmem_baseline: the CRC is no CRC32C\n");
    exit(1);
  }
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1e9 + t.tv_nsec;
}

static volatile uint32_t sink; /* keeps a CRC that nobody reads */

static void operate(char what, char *to, const void *from, size_t n) {
  if (what != 'o') sink = crc32c(from, n); /* append, crc */
  if (what == 'p') pmem_memcpy_persist(to, from, n);
  if (what == 'o') pmem_memcpy(to, from, n, PMEM_F_MEM_NONTEMPORAL);
}

static void measure(const char *what, size_t n, char *ring, size_t size, const void *src, double budget) {
  long done = 0;
  size_t at = 0;
  double begin = now(), t = begin;
  for (; t < begin + budget; t = now())
    for (size_t block = 0; block < 64 * 1024 + n; block += n) { /* the clock is read rarely */
      operate(what[1], ring + at, src, n); /* aPpend, cOpy, cRc */
      at = at + 2 * n <= size ? at + n : 0;
      done++;
    }
  printf("%s %zu %.2f\n", what, n, (t - begin) / done);
  fflush(stdout);
}

/* measure_apart counts each operation alone, without what is done between two. */
static void measure_apart(const char *what, size_t n, char *ring, size_t size, const void *src, double budget) {
  long done = 0;
  size_t at = 0;
  double took = 0;
  for (double begin = now(); now() < begin + budget; done++) {
    sink = crc32c(src, n);
    double t = now();
    operate(what[1], ring + at, src, n);
    took += now() - t;
    at = at + 2 * n <= size ? at + n : 0;
  }
  printf("%s %zu %.2f\n", what, n, took / done);
  fflush(stdout);
}

static char *map(const char *folder, size_t size) {
  char path[4096];
  size_t mapped;
  int is_pmem;
  if (snprintf(path, sizeof path, "%s/pmem_baseline.%d", folder, (int)getpid()) >= (int)sizeof path) {
    fprintf(stderr, "pmem_baseline: the folder's name is too long\n");
    exit(2);
  }
  char *p = pmem_map_file(path, size, PMEM_FILE_CREATE | PMEM_FILE_EXCL, 0600, &mapped, &is_pmem);
  int failed = errno;
  unlink(path); /* the mapping stays */
  if (p == NULL) {
    fprintf(stderr, "pmem_baseline: map %s: %s\n", path, strerror(failed));
    exit(1);
  }
  if (!is_pmem) {
    fprintf(stderr, "pmem_baseline: %s is not on persistent memory; set PMEM_IS_PMEM_FORCE=1 to measure the instructions all the same\n", folder);
    exit(1);
  }
  return p;
}

int main(int argc, char **argv) {
  if (argc < 2 || argc == 5 || argc > 6) {
    fprintf(stderr, "usage: pmem_baseline FOLDER [MILLISECONDS [RING_MIB [append|copy|crc SIZE]]]\n");
    return 2;
  }
  double budget = (argc > 2 ? atof(argv[2]) : 500) * 1e6;
  size_t size = (size_t)(argc > 3 ? atol(argv[3]) : 64) << 20;
  size_t one = argc > 5 ? (size_t)atol(argv[5]) : 1;
  if (budget <= 0 || size < 2 * MAX_SIZE || one < 1 || one > MAX_SIZE) {
    fprintf(stderr, "pmem_baseline: more than 0 ms, a ring of 2 MiB at least and sizes of 1 to %d bytes\n", MAX_SIZE);
    return 2;
  }
  static unsigned char src[MAX_SIZE];
  for (size_t i = 0; i < sizeof src; i++) src[i] = (unsigned char)(i * 2654435761u >> 13);
  make_table(after_long, LONG);
  make_table(after_short, SHORT);
  check(src);
  char *ring = map(argv[1], size);
  memset(ring, 1, size); /* no page is touched for the first time while it is measured */
  if (argc > 5) {
    if (strcmp(argv[4], "append") && strcmp(argv[4], "copy") && strcmp(argv[4], "crc")) {
      fprintf(stderr, "pmem_baseline: %s is neither append, copy nor crc\n", argv[4]);
      return 2;
    }
    (strcmp(argv[4], "copy") ? measure : measure_apart)(argv[4], one, ring, size, src, budget);
    return 0;
  }
  static const size_t sizes[] = {64, 512, 4096, 65536};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) measure("append", sizes[i], ring, size, src, budget);
  measure_apart("copy", 1 << 20, ring, size, src, budget);
  measure("crc", 1 << 20, ring, size, src, budget);
  return 0;
}
