/** A tiny C library for the binding tests, compiled once per process by the host's C compiler. */
import { spawnSync } from 'node:child_process'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { concurrent, signature } from '../../src/runtime/ffi/table.js'

const text = String.raw`
#include <stdint.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>
static char last[256];
const char *last_launch(void) { return last; }
int launch(uintptr_t f, uint32_t gx, uint32_t gy, uint32_t gz, uint32_t bx, uint32_t by, uint32_t bz, uint32_t shared,
           uintptr_t stream, void **parameters, void **extra) {
  uint64_t sum = 0;
  if (parameters) for (int i = 0; i < 3; i++) sum += *(uint64_t *)parameters[i];
  return f == 0xFFFF800000000001ull && gx == 4294967295u && gy == 2 && gz == 3 && bx == 4 && by == 5 && bz == 6 &&
         shared == 7 && stream == 8 && sum == 6000000000ull && extra == NULL;
}
uint64_t same_u64(uint64_t x) { return x; }
int64_t same_i64(int64_t x) { return x; }
int32_t same_i32(int32_t x) { return x; }
uint32_t same_u32(uint32_t x) { return x; }
size_t same_size(size_t x) { return x; }
float half_f32(float x) { return x / 2; }
double half_f64(double x) { return x / 2; }
void nothing(void) {}
const char *greeting(void) { return "gr\xC3\xBC\xC3\x9F" "e"; }
const char *no_string(void) { return NULL; }
size_t length(const char *s) { return strlen(s); }
int outs(int32_t *a, uint32_t *b, uint64_t *c, size_t *d, float *e, uintptr_t *f) {
  *a = -7; *b = 4000000000u; *c = 9007199254740993ull; *d = 5; *e = 1.5f; *f = 0x123456789abcull; return 0;
}
uint64_t sum_bytes(const uint8_t *p, size_t n) { uint64_t s = 0; while (n--) s += *p++; return s; }
void fill(uint8_t *p, int32_t value, size_t n) { memset(p, value, n); }
int is_null(void *p) { return p == NULL; }
int slow(uint32_t milliseconds) { usleep(milliseconds * 1000); return (int)milliseconds; }
`

export const nativeTable = {
  launch: signature('i32', 'function: pointer', 'gridX: u32', 'gridY: u32', 'gridZ: u32', 'blockX: u32', 'blockY: u32',
    'blockZ: u32', 'shared: u32', 'stream: pointer', 'parameters: bytes', 'extra: bytes'),
  same_u64: signature('u64', 'x: u64'),
  same_i64: signature('i64', 'x: i64'),
  same_i32: signature('i32', 'x: i32'),
  same_u32: signature('u32', 'x: u32'),
  same_size: signature('size', 'x: size'),
  half_f32: signature('f32', 'x: f32'),
  half_f64: signature('f64', 'x: f64'),
  nothing: signature('void'),
  greeting: signature('string'),
  no_string: signature('string'),
  length: signature('size', 'text: string'),
  outs: signature('i32', 'a: out i32', 'b: out u32', 'c: out u64', 'd: out size', 'e: out f32', 'f: out pointer'),
  sum_bytes: signature('u64', 'bytes: bytes', 'count: size'),
  fill: signature('void', 'bytes: bytes', 'value: i32', 'count: size'),
  is_null: signature('i32', 'pointer: bytes'),
  slow: concurrent('i32', 'milliseconds: u32'),
  absent: signature('i32'),
}

let built: string | undefined

/** Builds the library and gives its path. */
export function nativeLibrary(): string {
  if (built !== undefined) return built
  const folder = mkdtempSync(join(tmpdir(), 'weft-native-'))
  const source = join(folder, 'native.c')
  const library = join(folder, 'libnative.so')
  writeFileSync(source, text)
  const { status, stderr, error } = spawnSync('cc', ['-shared', '-fPIC', '-O1', '-o', library, source], { encoding: 'utf8' })
  if (status !== 0) throw new Error(`the binding tests need a C compiler: ${error?.message ?? stderr}`)
  built = library
  return library
}
