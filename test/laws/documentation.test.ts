/** The examples in docs/language.md give what they say. A line `expression   // → text` is evaluated and printed. */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import * as language from '../../src/dsl/index.js'
import { printNumber } from '../../src/dsl/scalar.js'
import { evaluate, f32, tensorOf } from '../compare.js'

const page = readFileSync(new URL('../../docs/language.md', import.meta.url), 'utf8')
const blocks = [...page.matchAll(/^## (.*)$|```ts\n([\s\S]*?)```/gm)].reduce<{ section: string; code: string }[]>((found, [, section, code]) =>
  section !== undefined ? [...found, { section, code: '' }] : [...found, { section: found.at(-1)!.section, code: code! }], []).filter(b => b.code !== '')

const words: Readonly<Record<string, unknown>> = { ...language, evaluate, f32, i32: (shape: Record<string, number>, values: number[]) => tensorOf('i32', shape, values) }

describe('docs/language.md', () => {
  test.each(blocks)('$section', ({ code }) => {
    const results: { got: string; want: string }[] = []
    const check = (value: unknown, want: string): void => { results.push({ got: Array.isArray(value) ? value.map(printNumber).join(', ') : String(value), want }) }
    const body = code.replace(/^(.*\S)\s+\/\/ → (.*)$/gm, (_, expression: string, want: string) => `check(${expression}, ${JSON.stringify(want)})`)
    new Function(...Object.keys(words), 'check', body)(...Object.values(words), check)
    expect(results.length).toBeGreaterThan(0)
    for (const { got, want } of results) expect(got).toBe(want)
  })

  test('names every operation', () => {
    const silent = Object.keys(language).filter(n => typeof language[n as keyof typeof language] === 'function' && !['WeftError', 'newArray', 'composite', 'printSize'].includes(n))
      .filter(n => !new RegExp(`\\b${n}\\b`).test(page))
    expect(silent).toEqual([])
  })
})
