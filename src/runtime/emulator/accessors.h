// Memory as kernels see it. On CUDA `Global<T>` is T* and `Shared<T, N>` is T (&)[N]; here both carry their bounds and
// give elements out as `Ref<T>`, which checks when the element is read or written, not when its address is formed.
// Ref::read and Ref::write (and the vector forms below) are the only places where kernels touch memory: there a watched
// kernel tells of it.
//
// Optimised, everything but the address, the index and the count disappears: an access is a compare, a branch that is
// never taken and a load. `auto x = p[i]` names the element, not its value: kernels write the type. What a kernel hands
// over is taken by value, never by reference: of a reference to local[4] the compiler's bounds check allows the address.
#pragma once
#include "abi.h"
#include "races.h"

namespace emu {

template <class T> struct NotConst { using Type = T; };
template <class T> struct NotConst<const T> { using Type = T; };

[[noreturn]] __attribute__((noinline, cold)) inline void fail(const Failure& failure) {
  Fiber* fiber = self();
  fiber->fail(fiber, failure);
  __builtin_unreachable();
}
[[noreturn]] __attribute__((noinline, cold)) inline void
outOfRange(bool shared, bool write, u64 index, u64 count, u64 bytes, const void* where, i32 line) {
  fail({shared ? Wrong::sharedIndex : Wrong::globalIndex, line, write, i64(index), count, bytes, where, nullptr});
}
[[noreturn]] __attribute__((noinline, cold)) inline void
misaligned(bool shared, bool write, const void* at, u64 wanted, i32 line) {
  const i64 place = shared ? static_cast<const u8*>(at) - self()->shared : reinterpret_cast<i64>(at);
  fail({shared ? Wrong::sharedAlignment : Wrong::globalAlignment, line, write, place, wanted, 0, at, nullptr});
}

// An index with the line it was written on: the default argument is evaluated where the conversion happens
struct Index {
  u64 value;
  i32 line;
  template <class I> __attribute__((always_inline)) Index(I i, i32 line = __builtin_LINE()) : value(u64(i64(i))), line(line) {}
};

// A namespace of their own: an argument of type emu::Pointer would bring all functions of emu into overload resolution
namespace types {

template <class T, bool shared> struct Pointer;

template <class T, bool shared> struct Ref {
  using Value = typename NotConst<T>::Type;
  T* base;
  u64 index, count;
  i32 line;

  __attribute__((always_inline)) T* at(bool write) const {
    if (__builtin_expect(index >= count, 0)) outOfRange(shared, write, index, count, sizeof(T), base, line);
    return base + index;
  }
  __attribute__((always_inline)) Value read() const {
    T* element = at(false);
    touch<shared>(base, index, count, 1, Access::read, line);
    return *element;
  }
  __attribute__((always_inline)) void write(Value v) const {
    T* element = at(true);
    touch<shared>(base, index, count, 1, Access::write, line);
    *element = v;
  }

  operator Value() const { return read(); }
  const Ref& operator=(Value v) const { write(v); return *this; }
  const Ref& operator=(const Ref& other) const { write(other.read()); return *this; }
  template <class V> const Ref& operator+=(V v) const { write(Value(read() + v)); return *this; }
  template <class V> const Ref& operator-=(V v) const { write(Value(read() - v)); return *this; }
  template <class V> const Ref& operator*=(V v) const { write(Value(read() * v)); return *this; }
  template <class V> const Ref& operator/=(V v) const { write(Value(read() / v)); return *this; }
  template <class V> const Ref& operator%=(V v) const { write(Value(read() % v)); return *this; }
  template <class V> const Ref& operator&=(V v) const { write(Value(read() & v)); return *this; }
  template <class V> const Ref& operator|=(V v) const { write(Value(read() | v)); return *this; }
  template <class V> const Ref& operator^=(V v) const { write(Value(read() ^ v)); return *this; }
  template <class V> const Ref& operator<<=(V v) const { write(Value(read() << v)); return *this; }
  template <class V> const Ref& operator>>=(V v) const { write(Value(read() >> v)); return *this; }
  const Ref& operator++() const { return *this += 1; }
  const Ref& operator--() const { return *this -= 1; }
  Value operator++(int) const { const Value v = read(); write(Value(v + 1)); return v; }
  Value operator--(int) const { const Value v = read(); write(Value(v - 1)); return v; }
  Pointer<T, shared> operator&() const { return {base, index, count}; }
};

// A place in an array that knows the array's ends
template <class T, bool shared> struct Pointer {
  using Element = typename NotConst<T>::Type;
  T* base = nullptr;
  u64 index = 0, count = 0;

  Pointer() = default;
  Pointer(decltype(nullptr)) {}
  Pointer(T* base, u64 index, u64 count) : base(base), index(index), count(count) {}
  operator Pointer<const T, shared>() const { return {base, index, count}; }

  __attribute__((always_inline)) Ref<T, shared> operator[](const Index& i) const { return {base, index + i.value, count, i.line}; }
  Ref<T, shared> operator*() const { return {base, index, count, 0}; }
  template <class I> Pointer operator+(I i) const { return {base, index + u64(i64(i)), count}; }
  template <class I> Pointer operator-(I i) const { return {base, index - u64(i64(i)), count}; }
  i64 operator-(const Pointer& other) const { return address() - other.address(); }
  template <class I> Pointer& operator+=(I i) { index += u64(i64(i)); return *this; }
  template <class I> Pointer& operator-=(I i) { index -= u64(i64(i)); return *this; }
  Pointer& operator++() { ++index; return *this; }
  Pointer& operator--() { --index; return *this; }
  Pointer operator++(int) { Pointer before = *this; ++index; return before; }
  explicit operator bool() const { return base != nullptr; }
  friend bool operator==(const Pointer& a, const Pointer& b) { return a.address() == b.address(); }
  friend bool operator!=(const Pointer& a, const Pointer& b) { return a.address() != b.address(); }
  friend bool operator<(const Pointer& a, const Pointer& b) { return a.address() < b.address(); }

  T* address() const { return reinterpret_cast<T*>(reinterpret_cast<u64>(base) + index * sizeof(T)); }

  // The address of N neighbours that are read or written as one: inside the array, and aligned
  template <int N> __attribute__((always_inline)) T* place(bool write, i32 line) const {
    if (__builtin_expect(index >= count || count - index < N, 0))
      outOfRange(shared, write, index >= count ? index : index + N - 1, count, sizeof(T), base, line);
    T* at = base + index;
    if (__builtin_expect(reinterpret_cast<u64>(at) % (sizeof(T) * N) != 0, 0)) misaligned(shared, write, at, sizeof(T) * N, line);
    return at;
  }
  template <int N> __attribute__((always_inline)) T* vector(bool write, i32 line) const {
    T* at = place<N>(write, line);
    touch<shared>(base, index, count, N, write ? Access::write : Access::read, line);
    return at;
  }
};

}  // namespace types
using namespace types;

// What T is as a value: the element where T is a reference to one
template <class T> struct ValueOf { using Type = T; };
template <class T, bool shared> struct ValueOf<Ref<T, shared>> { using Type = typename Ref<T, shared>::Value; };
template <class T> using Value = typename ValueOf<T>::Type;

}  // namespace emu

template <class T> using Global = emu::Pointer<T, false>;

// An array in the block's arena
template <class T, int N> struct Shared {
  using Element = typename emu::NotConst<T>::Type;
  T* base;
  __attribute__((always_inline)) emu::Ref<T, true> operator[](const emu::Index& i) const { return {base, i.value, N, i.line}; }
  emu::Ref<T, true> operator*() const { return {base, 0, N, 0}; }
  operator emu::Pointer<T, true>() const { return {base, 0, N}; }
  operator emu::Pointer<const T, true>() const { return {base, 0, N}; }
  template <class I> emu::Pointer<T, true> operator+(I i) const { return {base, u64(i64(i)), N}; }
  template <int M> T* vector(bool write, i32 line) const { return (*this + 0).template vector<M>(write, line); }
};

template <class T, int N> inline Shared<T, N> sharedAt(i32 byteOffset, i32 line = __builtin_LINE()) {
  const emu::Fiber* fiber = emu::self();
  if (byteOffset < 0 || u64(byteOffset) + sizeof(T) * N > fiber->sharedBytes)
    emu::fail({emu::Wrong::sharedPlace, line, false, byteOffset, sizeof(T) * N, 0, nullptr, nullptr});
  if (u64(byteOffset) % alignof(T) != 0) emu::misaligned(true, false, fiber->shared + byteOffset, alignof(T), line);
  return {reinterpret_cast<T*>(fiber->shared + byteOffset)};
}

template <class T, int N> struct alignas(sizeof(T) * N) Vector { T at[N]; };

namespace emu {

template <int N, class From> __attribute__((always_inline)) inline auto loadVector(const From& from, i32 line = 0) {
  Vector<typename From::Element, N> v;
  __builtin_memcpy(&v, from.template vector<N>(false, line), sizeof v);
  return v;
}
template <class To, class T, int N> __attribute__((always_inline)) inline void storeVector(const To& to, const Vector<T, N>& v, i32 line = 0) {
  __builtin_memcpy(to.template vector<N>(true, line), &v, sizeof v);
}

// One fiber runs at a time, and a block stays on one processor: reading and writing is atomic by itself
template <class T, int N> inline T fetchAdd(const Shared<T, N>& array, const Index& i, Value<T> n) {
  const Ref<T, true> element = array[i];
  T* at = element.at(true);
  touch<true>(element.base, element.index, N, 1, Access::atomic, element.line);
  const T before = *at;
  *at = T(before + n);
  return before;
}

}  // namespace emu
