/** What a failing program is printed as: run, it gives the same graph; TypeScript accepts it. */
import fc from 'fast-check'
import ts from 'typescript'
import { expect, test } from 'vitest'
import * as language from '../../src/dsl/index.js'
import type { Expr } from '../../src/dsl/index.js'
import { expSumMonoid } from '../../src/dsl/monoid.js'
import { literal } from '../../src/dsl/scalar.js'
import { arbitraryProgram, type Flavour } from '../arbitraries.js'
import { draw, jobOf } from './draw.js'
import { caseSource, programSource, type Uses } from './source.js'

const { printGraph } = language
const scope: Readonly<Record<string, unknown>> = { ...language, literal, expSumMonoid }

/** The outputs of a printed program. */
function run(outputs: Readonly<Record<string, Expr>>): Readonly<Record<string, Expr>> {
  const uses: Uses = new Set(), { lines, names } = programSource(outputs, uses)
  const text = `${lines.join('\n')}\nreturn { ${Object.entries(names).map(([n, v]) => `${n}: ${v}`).join(', ')} }`
  const plain = ts.transpileModule(`function program() {\n${text}\n}`, { compilerOptions: { target: ts.ScriptTarget.ES2022 } }).outputText
  const values = [...new Set([...uses].map(n => n.split('.')[0]!))].filter(n => !n.startsWith('type '))
  return (new Function(...values, `${plain}\nreturn program()`) as (...v: unknown[]) => Readonly<Record<string, Expr>>)(...values.map(n => scope[n]))
}

test.each(['exact', 'float'] as const satisfies readonly Flavour[])('a printed program is the same graph: %s data', flavour => {
  fc.assert(fc.property(arbitraryProgram({ flavour, steps: 12, elements: 500 }), ({ outputs }) => {
    const again = run(outputs)
    expect(printGraph(again, { expand: true })).toBe(printGraph(outputs, { expand: true }))
    for (const [name, e] of Object.entries(outputs)) expect(again[name]).toBe(e)
  }), { numRuns: 150 })
})

test('printed cases type-check', { timeout: 120_000 }, () => {
  const files = new Map(Array.from({ length: 40 }, (_, i) => {
    const d = draw(7, i), { settled } = jobOf(d)
    return [new URL(`./case${i}.ts`, import.meta.url).pathname, caseSource(settled(), 'a reason')] as const
  }))
  const options: ts.CompilerOptions = {
    target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, lib: ['lib.es2022.d.ts', 'lib.esnext.disposable.d.ts'],
    strict: true, exactOptionalPropertyTypes: true, noUncheckedIndexedAccess: true, skipLibCheck: true, noEmit: true, types: ['node'],
  }
  const host = ts.createCompilerHost(options), { readFile, fileExists, getSourceFile } = host
  host.fileExists = f => files.has(f) || fileExists.call(host, f)
  host.readFile = f => files.get(f) ?? readFile.call(host, f)
  host.getSourceFile = (f, ...rest) => { const text = files.get(f); return text === undefined ? getSourceFile.call(host, f, ...rest) : ts.createSourceFile(f, text, ts.ScriptTarget.ES2022) }
  const program = ts.createProgram([...files.keys()], options, host)
  const complaints = [...files.keys()].flatMap(f => [...program.getSyntacticDiagnostics(program.getSourceFile(f)), ...program.getSemanticDiagnostics(program.getSourceFile(f))])
  expect(complaints.map(d => `${ts.flattenDiagnosticMessageText(d.messageText, '\n').slice(0, 300)}\n${d.file?.text.split('\n')[d.file.getLineAndCharacterOfPosition(d.start ?? 0).line]}`).join('\n\n')).toBe('')
})
