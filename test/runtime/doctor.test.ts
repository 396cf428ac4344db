import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openCache } from '../../src/runtime/cache.js'
import { doctor, renderDoctor, type DoctorReport } from '../../src/runtime/doctor.js'
import { realSystem } from '../../src/runtime/system.js'

const cache = openCache({ folder: mkdtempSync(join(tmpdir(), 'weft-doctor-')) })
const row = (report: DoctorReport, id: string) => report.rows.find((one) => one.id === id)

describe('doctor', () => {
  it('tries everything and says what can run kernels', async () => {
    const report = await doctor({ cache })
    expect(report.rows.map(({ id }) => id)).toEqual(expect.arrayContaining(['system', 'ffi', 'libcuda', 'nvrtc', 'compile', 'host compiler', 'device cuda:0', 'device emulator', 'cache']))
    expect(row(report, 'ffi')).toMatchObject({ status: 'PASS' })
    for (const { status, fix, id } of report.rows) if (status !== 'PASS') expect([id, fix]).toEqual([id, expect.stringMatching(/\w/)])
    expect(report.exitCode).toBe(report.devices.length > 0 ? 0 : 1)
    expect(JSON.parse(JSON.stringify(report))).toEqual(report)
    if (row(report, 'host compiler')?.status === 'PASS') {
      expect(row(report, 'device emulator')).toMatchObject({ status: 'PASS', detail: expect.stringMatching(/test kernel .*result right/) })
      expect(report.devices).toContain('emulator')
    }
  }, 120_000)

  it('says so when there is nothing', async () => {
    const { PATH: _, ...environment } = process.env
    const path = process.env['PATH']
    process.env['PATH'] = '/nowhere'
    try {
      const system = { ...realSystem({ ...environment, WEFT_LIBCUDA: '0', WEFT_NVRTC: '0' }) }
      const report = await doctor({ system, cache: openCache({ noCache: true }) })
      expect(report).toMatchObject({ exitCode: 1, devices: [] })
      expect(row(report, 'libcuda')).toMatchObject({ status: 'WARN', places: ['WEFT_LIBCUDA: disabled [WEFT_LIBCUDA]'] })
      expect(row(report, 'compile')).toMatchObject({ status: 'WARN', detail: 'not tried: there is no NVRTC' })
      expect(row(report, 'host compiler')).toMatchObject({ status: 'WARN', fix: expect.stringMatching(/apt install g\+\+/) })
      expect(row(report, 'cache')).toMatchObject({ status: 'WARN', detail: expect.stringMatching(/off.*switched off by the caller/) })
      const text = renderDoctor(report)
      expect(text).toMatch(/^PASS {2}system {10,}linux/)
      expect(text).toMatch(/WARN {2}device emulator {2}not usable: No C\+\+ compiler/)
      expect(text).toMatch(/No device can run kernels; the reference device still evaluates programs/)
    } finally {
      process.env['PATH'] = path
    }
  })
})
