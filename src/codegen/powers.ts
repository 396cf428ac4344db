/** Sizes of tiles and numbers of threads: powers of two and multiples. */

export const isPowerOfTwo = (n: number): boolean => Number.isInteger(n) && n > 0 && (n & (n - 1)) === 0
/** The greatest power of two up to n; 1 at least. */
export const powerBelow = (n: number): number => 2 ** Math.floor(Math.log2(Math.max(1, n)))
/** The least power of two from n on; 1 at least. */
export const powerAbove = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, n)))
/** The least multiple from n on. */
export const upTo = (n: number, multiple: number): number => Math.ceil(n / multiple) * multiple
