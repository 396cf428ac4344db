// Builds dist/ from src/ and links this package's own binary, so that `npx weft` in a clone never looks elsewhere.
// Needs neither a C++ compiler nor Python: the emulator's C++ is copied as text and compiled at first use.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { chmodSync, cpSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const tsc = join(dirname(createRequire(import.meta.url).resolve('typescript/package.json')), 'bin', 'tsc')

// npx prepares a clone once more when it first runs its binary, and `npm test` builds before: unchanged sources are not
// compiled again (7 s).
const stamp = join(root, 'dist', '.built')
const inputs = ['package.json', 'tsconfig.json', 'tsconfig.build.json', 'scripts/build.mjs',
  ...readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' }).map(f => join('src', f)).sort()].filter(f => statSync(join(root, f)).isFile())
const hash = createHash('sha256')
for (const file of inputs) hash.update(`${file}\0`).update(readFileSync(join(root, file)))
const digest = hash.digest('hex')

if (!existsSync(stamp) || readFileSync(stamp, 'utf8') !== digest) {
  rmSync(join(root, 'dist'), { recursive: true, force: true })
  const { status } = spawnSync(process.execPath, [tsc, '-p', join(root, 'tsconfig.build.json')], { stdio: 'inherit' })
  if (status !== 0) process.exit(status ?? 1)
  for (const file of readdirSync(join(root, 'src', 'runtime', 'emulator'))) {
    if (/\.(h|cpp)$/.test(file)) {
      cpSync(join(root, 'src', 'runtime', 'emulator', file), join(root, 'dist', 'runtime', 'emulator', file))
    }
  }
  writeFileSync(stamp, digest)
}

const binary = join(root, 'dist', 'cli', 'main.js')
if (existsSync(binary)) {
  chmodSync(binary, 0o755)
  const bin = join(root, 'node_modules', '.bin')
  if (existsSync(join(root, 'node_modules')) && process.platform !== 'win32') {
    mkdirSync(bin, { recursive: true })
    rmSync(join(bin, 'weft'), { force: true })
    symlinkSync(join('..', '..', 'dist', 'cli', 'main.js'), join(bin, 'weft'))
  }
}
