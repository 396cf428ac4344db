/** The shape of the source: what the design says about folders, files and types, checked by reading them. */
import { existsSync, readFileSync, readdirSync, statSync } from 'node:fs'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

function files(folder: string, ending: RegExp): string[] {
  const path = join(root, folder)
  if (!existsSync(path)) return []
  return readdirSync(path, { recursive: true, encoding: 'utf8' }).map(f => join(folder, f)).filter(f => ending.test(f) && statSync(join(root, f)).isFile()).sort()
}
const read = (file: string): string => readFileSync(join(root, file), 'utf8')
const sources = files('src', /\.(ts|h|cpp)$/)
const modules = sources.filter(f => f.endsWith('.ts'))

interface Import { readonly from: string; readonly to: string; readonly typeOnly: boolean }
const imports: readonly Import[] = modules.flatMap(from => {
  const text = read(from).replace(/\/\*[\s\S]*?\*\//g, '')
  return [...text.matchAll(/^\s*(?:import|export)\s+(type\s)?(?:[^;'"]*?\sfrom\s+)?'(\.[^']+)'/gm)].map(m =>
    ({ from, to: relative(root, resolve(root, dirname(from), m[2]!)).replace(/\.js$/, '.ts'), typeOnly: m[1] !== undefined }))
})

test('every relative import leads to a file', () => {
  expect(imports.length).toBeGreaterThan(100)
  expect(imports.filter(i => !existsSync(join(root, i.to))).map(i => `${i.from}: ${i.to}`)).toEqual([])
})

// Types may look at each other: they are gone when the code runs.
test('imports have no cycles', () => {
  const next = new Map<string, string[]>()
  for (const i of imports) if (!i.typeOnly) next.set(i.from, [...(next.get(i.from) ?? []), i.to])
  const state = new Map<string, 'open' | 'done'>(), cycles: string[] = []
  const visit = (file: string, path: readonly string[]): void => {
    if (state.get(file) === 'done') return
    if (state.get(file) === 'open') { cycles.push([...path.slice(path.indexOf(file)), file].join(' → ')); return }
    state.set(file, 'open')
    for (const to of next.get(file) ?? []) visit(to, [...path, file])
    state.set(file, 'done')
  }
  for (const file of modules) visit(file, [])
  expect(cycles).toEqual([])
})

test('the compiler and the runtime know no domain', () => {
  const words = /(?<![a-z])(snapkv|kv|attention|kvhead|queryhead)(?![a-z])/i
  const found = sources.filter(f => /^src\/(dsl|codegen|runtime)\//.test(f)).flatMap(f => read(f).split('\n').flatMap((line, i) => {
    const hit = words.exec(line)
    return hit === null ? [] : [`${f}:${i + 1}: ${hit[1]}`]
  }))
  expect(found).toEqual([])
})

test('no file is longer than 350 lines', () => {
  expect(sources.map(f => [f, read(f).split('\n').length - 1] as const).filter(([, n]) => n > 350).map(([f, n]) => `${f}: ${n}`)).toEqual([])
})

test('nothing is typed any', () => {
  const found = [...modules, ...files('test', /\.ts$/), ...files('bench', /\.ts$/)].flatMap(f => {
    const source = ts.createSourceFile(f, read(f), ts.ScriptTarget.Latest, true), hits: string[] = []
    const visit = (node: ts.Node): void => {
      if (node.kind === ts.SyntaxKind.AnyKeyword) hits.push(`${f}:${source.getLineAndCharacterOfPosition(node.getStart()).line + 1}: ${node.parent.getText().slice(0, 60)}`)
      ts.forEachChild(node, visit)
    }
    visit(source)
    return hits
  })
  expect(found).toEqual([])
})

test('the reference interpreter stands alone', () => {
  const reached = new Set<string>()
  const visit = (file: string): void => {
    if (reached.has(file)) return
    reached.add(file)
    for (const i of imports) if (i.from === file) visit(i.to)
  }
  modules.filter(f => /^src\/runtime\/reference(\/|\.ts)/.test(f)).forEach(visit)
  expect(reached.size).toBeGreaterThan(3)
  expect([...reached].filter(f => !/^src\/(dsl|runtime)\//.test(f))).toEqual([])
  expect([...reached].filter(f => /driver|emulator|nvrtc|program/.test(f))).toEqual([])
})

test('folders depend in one direction', () => {
  const allowed: Readonly<Record<string, readonly string[]>> = { dsl: [], codegen: ['dsl'], runtime: ['dsl', 'codegen'], snapkv: ['dsl', 'runtime'] }
  const folder = (f: string): string => f.split('/')[1]!
  const wrong = imports.filter(i => folder(i.from) in allowed && folder(i.from) !== folder(i.to) && !allowed[folder(i.from)]!.includes(folder(i.to)))
  expect(wrong.map(i => `${i.from} imports ${i.to}`)).toEqual([])
})

const documents = [...files('docs', /\.md$/), ...['README.md', 'CONTRIBUTING.md'].filter(f => existsSync(join(root, f))), ...files('test', /\.md$/)]

test('links in the documents lead somewhere', () => {
  const broken = documents.flatMap(f => {
    const text = read(f).replace(/```[\s\S]*?```/g, '')
    return [...text.matchAll(/\]\(([^)\s]+)\)/g)].map(m => m[1]!).filter(to => !/^[a-z]+:/.test(to)).flatMap(to => {
      const [path, anchor] = to.split('#') as [string, string | undefined]
      const file = path === '' ? f : join(dirname(f), path)
      if (!existsSync(join(root, file))) return [`${f}: ${to}`]
      if (anchor === undefined || !file.endsWith('.md')) return []
      const anchors = [...read(file).matchAll(/^#+\s+(.*)$/gm)].map(h => h[1]!.toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, '').trim().replaceAll(' ', '-'))
      return anchors.includes(anchor) ? [] : [`${f}: ${to}`]
    })
  })
  expect(broken).toEqual([])
})

test('files named in the documents exist', () => {
  const missing = documents.flatMap(f => [...read(f).replace(/```[\s\S]*?```/g, '').matchAll(/`((?:src|test|docs|bench|scripts)\/[\w./-]+\.\w+)`/g)].map(m => m[1]!).filter(p => !existsSync(join(root, p))).map(p => `${f}: ${p}`))
  expect(missing).toEqual([])
})

test('no path of somebody’s machine is written down', () => {
  const all = [...sources, ...files('test', /\.(ts|cu|md|json|snap)$/), ...files('scripts', /./), ...files('bench', /\.ts$/), ...files('docs', /./), 'package.json', 'vitest.config.ts', 'tsconfig.json', ...documents]
  const path = new RegExp(['/(?:home/(?!me\\b)', 'Users/', 'root/)[a-z]'].join('|') + '|/wo' + 'rk/(?:main|shared)|[A-Z]:\\\\Users')
  const found = all.flatMap(f => read(f).split('\n').flatMap((line, i) => (path.test(line) ? [`${f}:${i + 1}: ${line.trim().slice(0, 100)}`] : [])))
  expect(found).toEqual([])
})
