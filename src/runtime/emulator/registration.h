// The end of a kernel's shared object: one exported record per kernel, and the functions that the compiler's checks for
// undefined behaviour call. Those come with the place in the source, so a failure can name its line.
#pragma once
#include "abi.h"
#include "accessors.h"

namespace emu {

template <class T> struct Argument {
  static constexpr u32 bytes = sizeof(T);
  static constexpr bool isPointer = false;
  static T make(const void* at, const Extent&) {
    T value;
    __builtin_memcpy(&value, at, sizeof value);
    return value;
  }
};
template <class T> struct Argument<Pointer<T, false>> {
  static constexpr u32 bytes = 8;
  static constexpr bool isPointer = true;
  // A pointer into the middle of an allocation keeps what lies before it
  static Pointer<T, false> make(const void* at, const Extent& extent) {
    u64 address;
    __builtin_memcpy(&address, at, 8);
    if (address == 0) return nullptr;
    if (address % alignof(T) != 0) fail({Wrong::argument, 0, false, i64(address), alignof(T), 0, reinterpret_cast<const void*>(address), nullptr});
    if (extent.begin == nullptr) return {reinterpret_cast<T*>(address), 0, 0};
    const u64 begin = reinterpret_cast<u64>(extent.begin), before = (address - begin) / sizeof(T);
    const u64 base = address - before * sizeof(T);
    return {reinterpret_cast<T*>(base), before, (begin + extent.bytes - base) / sizeof(T)};
  }
};

template <u32... I> struct Numbers {};
template <u32 N, u32... I> struct Count : Count<N - 1, N - 1, I...> {};
template <u32... I> struct Count<0, I...> { using Type = Numbers<I...>; };

template <auto kernel> struct Entry;
template <class... A, void (*kernel)(A...)> struct Entry<kernel> {
  static constexpr u32 bytes[sizeof...(A) + 1] = {Argument<A>::bytes..., 0};
  static constexpr bool isPointer[sizeof...(A) + 1] = {Argument<A>::isPointer..., false};
  template <u32... I> static void call(const void* const* arguments, const Extent* extents, Numbers<I...>) {
    kernel(Argument<A>::make(arguments[I], extents[I])...);
  }
  static void run(const void* const* arguments, const Extent* extents) {
    call(arguments, extents, typename Count<sizeof...(A)>::Type{});
  }
  static constexpr Kernel record(u32 cluster, const char* const* text) { return {abiVersion, sizeof...(A), bytes, isPointer, run, cluster, text, watched}; }
};

// What the compiler passes to its handlers: the place, then the types of the operands
struct CheckedType {
  u16 kind, info;  // info: signed in bit 0, log2 of the bits above it
  char name[1];
};
struct CheckedPlace {
  const char* file;
  u32 line, column;
  const CheckedType* types[2];
};
inline i64 operand(const void* handle, const CheckedType* type) {
  const u32 shift = 64 - (1u << (type->info >> 1));
  const u64 bits = reinterpret_cast<u64>(handle) << shift;
  return type->info & 1 ? i64(bits) >> shift : i64(bits >> shift);
}
[[noreturn]] inline void undefinedAt(const void* place, const char* text, const void* a = nullptr, int typeOfA = -1, const void* b = nullptr) {
  const CheckedPlace& at = *static_cast<const CheckedPlace*>(place);
  const i64 first = typeOfA < 0 ? 0 : operand(a, at.types[typeOfA]), second = b == nullptr ? 0 : operand(b, at.types[typeOfA]);
  fail({Wrong::undefined, i32(at.line), false, first, u64(second), 0, nullptr, text});
}

}  // namespace emu

#define WEFT_EXPORT extern "C" __attribute__((visibility("default"), used))
// A kernel's own name may be one of the C library: its text is compiled with `name` defined as weftText_name
#define WEFT_KERNEL(name, cluster, text) WEFT_EXPORT const emu::Kernel weftKernel_##name = emu::Entry<weftText_##name>::record(cluster, text);

// One shared object is one translation unit: plain definitions, hidden, kept although nothing in the source calls them
#define EMU_UNDEFINED(name) extern "C" __attribute__((used, cold, noinline)) void __ubsan_handle_##name
EMU_UNDEFINED(out_of_bounds_abort)(void* at, void* i) { emu::undefinedAt(at, "index %lld is outside a local array", i, 1); }
EMU_UNDEFINED(shift_out_of_bounds_abort)(void* at, void*, void* by) { emu::undefinedAt(at, "shift by %lld, which is negative or not below the number of bits", by, 1); }
EMU_UNDEFINED(divrem_overflow_abort)(void* at, void* a, void* b) { emu::undefinedAt(at, "integer division without a result: %lld / %lld", a, 0, b); }
EMU_UNDEFINED(add_overflow_abort)(void* at, void* a, void* b) { emu::undefinedAt(at, "signed integer overflow: %lld + %lld", a, 0, b); }
EMU_UNDEFINED(sub_overflow_abort)(void* at, void* a, void* b) { emu::undefinedAt(at, "signed integer overflow: %lld - %lld", a, 0, b); }
EMU_UNDEFINED(mul_overflow_abort)(void* at, void* a, void* b) { emu::undefinedAt(at, "signed integer overflow: %lld * %lld", a, 0, b); }
EMU_UNDEFINED(negate_overflow_abort)(void* at, void* a) { emu::undefinedAt(at, "signed integer overflow: -(%lld)", a, 0); }
EMU_UNDEFINED(float_cast_overflow_abort)(void* at, void*) { emu::undefinedAt(at, "NaN, or a number that the integer type cannot hold, is converted to it"); }
EMU_UNDEFINED(builtin_unreachable)(void* at) { emu::undefinedAt(at, "a place that is declared to be unreachable is reached"); }
EMU_UNDEFINED(missing_return)(void* at) { emu::undefinedAt(at, "the end of a function that returns a value is reached"); }
#undef EMU_UNDEFINED
