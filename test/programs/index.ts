/** The corpus: small programs over the whole language that keep the compiler honest. */
import { arithmeticCases } from './arithmetic.js'
import { attentionCases } from './attention.js'
import type { Case } from './case.js'
import { rowCases } from './rows.js'
import { selectionCases } from './selection.js'

export const corpus: Readonly<Record<string, readonly Case[]>> = { rows: rowCases, contractions: attentionCases, selection: selectionCases, arithmetic: arithmeticCases }
export type { Case }
