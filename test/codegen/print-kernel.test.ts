/** The kernel form as text: by hand for the arithmetic, in general for the kernels of a program. */
import { describe, expect, test } from 'vitest'
import { contract, gather, layerNorm, pool, softmax, size, sum, tensor, topK, type Expr } from '../../src/dsl/index.js'
import { add, constant, dimIndex, min, mod, mul, scalar, sub, symbol } from '../../src/codegen/index-expr.js'
import type { Kernel, Memory, RegisterTile } from '../../src/codegen/kernel.js'
import { lower } from '../../src/codegen/pipeline.js'
import { plan } from '../../src/codegen/plan.js'
import { printKernel } from '../../src/codegen/print-kernel.js'
import { binaryValue, constantValue, loadValue, registerValue, unaryValue, yes } from '../../src/codegen/values.js'

test('a kernel by hand', () => {
  const n = symbol('n'), block = scalar('block', 1000)
  const item = { name: 'item', extent: 64, threads: 32, stride: 1 }
  const x: Memory = { name: 'x', user: 'x', dtype: 'f32', role: 'input', axes: [{ name: 'n', size: size('n') }] }
  const y: Memory = { ...x, name: 'y', user: 'y', role: 'output' }
  const tile: RegisterTile = { space: 'register', name: 'value', dtype: 'f32', dims: [item] }
  const value = binaryValue('mul', binaryValue('sub', loadValue(x, min(add(mul(block, constant(64)), dimIndex(item)), sub(n, constant(1)))), constantValue(2, 'f32')), unaryValue('exp', registerValue(tile)))
  const kernel: Kernel = {
    name: 'double', summary: [], threads: 32, grid: [{ name: 'block', blocks: n }], inputs: [x], outputs: [y], symbols: ['n'], counts: [],
    body: [
      { kind: 'map', target: tile, value: constantValue(-Infinity, 'f32'), fresh: true },
      { kind: 'let', name: 'item', value: sub(mod(dimIndex(item), n), sub(block, n)) },
      { kind: 'for', variable: 'i', from: constant(0), to: n, step: 4, body: [{ kind: 'barrier' }, { kind: 'map', target: tile, value, fresh: false }] },
      { kind: 'store', memory: y, dims: [item], at: dimIndex(item), value: registerValue(tile), condition: yes, vector: 1 },
    ],
  }
  expect(printKernel(kernel)).toBe(`kernel double  grid block nSize  threads 32  shared 0 bytes
  reads   x f32[n]
  writes  y f32[n]
  tile    register f32 value[item 64/32]

  map      value <- -inf
  let item = itemLane % nSize - (block - nSize)
  for i in 0 .. nSize step 4:
    barrier
    map      value <- (x[min(block * 64 + item, nSize - 1)] - 2) * exp(value)
  store    y[item] <- value
`)
})

describe('kernels of programs', () => {
  const x = tensor('x', 'f32', ['row', 'col']), q = tensor('q', 'bf16', ['row', 'dim']), k = tensor('k', 'bf16', ['col', 'dim'])
  const best = topK(pool.max(sum(softmax(contract(q, k, 'dim'), 'col'), 'row'), 'col', { size: 5 }), 'col', { k: 7, as: 'kept' })
  const programs: Readonly<Record<string, Readonly<Record<string, Expr>>>> = {
    norm: { y: layerNorm(x, 'col') }, selection: { best, rows: gather(k, 'col', best) }, attention: { o: contract(softmax(contract(q, k, 'dim'), 'col'), x, 'col') },
  }
  test.each(Object.entries(programs))('%s', (_, outputs) => {
    for (const { kernel } of lower(plan(outputs, { sizes: { row: 64, col: 3000, dim: 64 } }))) {
      const text = printKernel(kernel)
      expect(text).not.toMatch(/undefined|\[object|NaN|[^<]- -|\+ -/)
      for (const m of [...kernel.inputs, ...kernel.outputs]) expect(text).toContain(`${m.name} ${m.dtype}[`)
      const body = text.slice(text.indexOf('\n\n') + 2).trimEnd().split('\n')
      for (const line of body) expect(line).toMatch(/^ {2,}(#|let|for|if|map|fold|merge|combine|stage|ahead|spill|pairs|mma|contract|store|select|barrier)\b|^ {2,}#/)
    }
  })
})
