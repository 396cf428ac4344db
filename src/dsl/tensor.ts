/** The types users see: a graph node whose axes and dtype TypeScript knows. */
import type { Dtype } from './dtype.js'
import type { Expr } from './expr.js'
import type { SizeLike } from './size.js'

declare const brand: unique symbol

/**
 * A tensor over the named axes `A` with elements of dtype `D`. A node of the graph; it holds no data. The order of axes
 * has no meaning; operands are aligned by name.
 */
export type Tensor<A extends string = string, D extends Dtype = Dtype> = Expr & {
  readonly [brand]?: { readonly axes: A; readonly dtype: D }
}

export type AxesOf<T> = T extends { readonly [brand]?: { readonly axes: infer A } } ? (A extends string ? A : never) : never
export type DtypeOf<T> = T extends { readonly [brand]?: { readonly dtype: infer D } } ? (D extends Dtype ? D : never) : never

/** Axes of an input: their names (sizes become symbols of the same name), or names with sizes. */
export type AxisSpec<A extends string> = readonly A[] | { readonly [N in A]: SizeLike }
