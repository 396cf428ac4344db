/** The corpus: small programs over the whole language that keep the compiler honest. */
import { arithmeticCases } from './arithmetic.js'
import { attentionCases } from './attention.js'
import type { Case } from './case.js'
import { everydayCases } from './everyday.js'
import { foundCases } from './found.js'
import { nestedCases } from './nested.js'
import { rowCases } from './rows.js'
import { selectionCases } from './selection.js'

export const corpus: Readonly<Record<string, readonly Case[]>> = {
  rows: rowCases, nested: nestedCases, contractions: attentionCases, selection: selectionCases, arithmetic: arithmeticCases, found: foundCases, ...everydayCases,
}
export type { Case }
