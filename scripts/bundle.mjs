// Packs Weft for a machine without internet: Node itself, the built package, its production dependencies, the shipped
// data, and NVRTC if `npm run setup:nvrtc` has put it here. `npm run bundle [-- FOLDER]`; there: tar xf, ./weft doctor.
import { spawnSync } from 'node:child_process'
import { chmodSync, cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const target = resolve(process.argv[2] ?? join(root, '.gpu'))
const run = (command, args) => {
  const { status, error } = spawnSync(command, args, { stdio: ['ignore', 'ignore', 'inherit'] })
  if (status !== 0) throw new Error(`${command} ${args[0]} failed${error === undefined ? '' : `: ${error.message}`}`)
}

if (!existsSync(join(root, 'dist', 'cli', 'main.js'))) throw new Error('there is no dist/: run `npm ci` first')
const staging = mkdtempSync(join(tmpdir(), 'weft-bundle-')), into = join(staging, 'weft')
try {
  mkdirSync(join(into, 'bin'), { recursive: true })
  const node = join(into, 'bin', 'node')
  cpSync(process.execPath, node)
  chmodSync(node, 0o755)
  spawnSync('strip', [node])   // 100 MB of symbols; without `strip` the bundle is only larger
  for (const part of ['dist', 'package.json', 'LICENSE', 'README.md', 'test/data']) cpSync(join(root, part), join(into, part), { recursive: true })
  // Production dependencies only, with the binary of this platform.
  const { dependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  for (const name of [...Object.keys(dependencies), '@koromix']) {
    const from = join(root, 'node_modules', name)
    if (existsSync(from)) cpSync(from, join(into, 'node_modules', name), { recursive: true, dereference: true })
  }
  if (existsSync(join(root, '.weft'))) cpSync(join(root, '.weft'), join(into, '.weft'), { recursive: true, dereference: true })
  writeFileSync(join(into, 'weft'), '#!/bin/sh\nhere="$(cd "$(dirname "$0")" && pwd)"\nexec "$here/bin/node" "$here/dist/cli/main.js" "$@"\n', { mode: 0o755 })
  mkdirSync(target, { recursive: true })
  const archive = join(target, `weft-${process.platform}-${process.arch}.tar.xz`)
  run('tar', ['-cJf', `${archive}.part`, '-C', staging, 'weft'])
  renameSync(`${archive}.part`, archive)
  console.log(`${archive}: ${(statSync(archive).size / 2 ** 20).toFixed(1)} MiB`)
} finally {
  rmSync(staging, { recursive: true, force: true })
}
