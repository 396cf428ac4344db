/** Puts one bug of the catalogue into its module as vitest loads it. Nothing in `src` knows of it. */
import { fileURLToPath } from 'node:url'
import type { Plugin } from 'vite'
import { mutants, mutated } from './catalogue.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** @param name of a mutant: the environment variable WEFT_MUTANT in vitest.config.ts */
export function mutation(name: string): Plugin {
  const mutant = mutants.find(m => m.name === name)
  if (mutant === undefined) throw new Error(`there is no mutant '${name}'`)
  return {
    name: 'weft-mutant',
    enforce: 'pre',
    transform: (code, id) => (id.split('?')[0] === root + mutant.file ? mutated(mutant, code) : undefined),
  }
}
