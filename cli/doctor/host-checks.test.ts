import { expect, test } from 'bun:test';
import { PicketError } from '../../shared/errors/errors.ts';
import { checkHost, type HostFacts } from './host-checks.ts';

const HEALTHY: HostFacts = {
  trial: undefined,
  socketDiagnosis: undefined,
  rules: 'table inet picket {}',
  foreign: { programs: [], dropping: [], translating: [] },
  isCaptureWanted: true,
  backend: 'nftables',
  obstacleToPrograms: undefined,
};
const failure = new PicketError('failed_precondition', 'nft_refused', 'nft said no');

const FAULTS: readonly (readonly [name: string, Partial<HostFacts>, 'warn' | 'fail', string])[] = [
  ['nftables', { trial: failure }, 'fail', 'nft said no'],
  ['sock_diag', { socketDiagnosis: failure }, 'fail', 'nft said no'],
  ['ebpf', { backend: 'ebpf', obstacleToPrograms: failure }, 'fail', 'nft said no'],
  ['rules', { rules: '' }, 'fail', 'WITHOUT Picket'],
  ['rules', { rules: failure }, 'fail', 'nft said no'],
  ['rules', { isCaptureWanted: false }, 'warn', 'although'],
  ['other rules', { foreign: { programs: ['Docker'], dropping: [], translating: [] } }, 'warn', 'Docker'],
  [
    'other rules',
    { foreign: { programs: ['ufw'], dropping: ['ip filter INPUT (input)'], translating: [] } },
    'warn',
    'INPUT',
  ],
  [
    'other rules',
    { foreign: { programs: [], dropping: [], translating: ['ip early masks'] } },
    'warn',
    'ip early masks',
  ],
  ['other rules', { foreign: failure }, 'warn', 'nft said no'],
];

test('checkHost() finds nothing wrong with a host that is well, rules of others among them', () => {
  const facts: HostFacts = {
    ...HEALTHY,
    foreign: { programs: ['firewalld'], dropping: [], translating: [] },
  };
  expect(checkHost(facts).map(({ outcome }) => outcome)).toEqual(['ok', 'ok', 'ok', 'ok', 'ok']);
  const off = checkHost({ ...HEALTHY, rules: '', isCaptureWanted: false });
  expect(off.find(({ name }) => name === 'rules')?.outcome).toBe('ok');
});

test('checkHost() tells what eBPF lacks, and minds only where it was asked for', () => {
  const facts = { ...HEALTHY, obstacleToPrograms: failure };
  for (const backend of ['nftables', 'auto'] as const) {
    const found = checkHost({ ...facts, backend }).find(({ name }) => name === 'ebpf');
    expect(found?.outcome).toBe('ok');
    expect(found?.found).toContain('nft said no');
  }
});

test.each(FAULTS.map(([name, change, outcome, found]) => ({ name, change, outcome, found })))(
  'checkHost() tells by $name ($outcome: $found), and what to do',
  ({ name, change, outcome, found }) => {
    const wrong = checkHost({ ...HEALTHY, ...change }).filter((each) => each.outcome !== 'ok');
    expect(wrong.map((check) => [check.area, check.name, check.outcome])).toEqual([['host', name, outcome]]);
    expect(wrong[0]?.found).toContain(found);
    expect(wrong[0]?.advice).not.toBeEmpty();
  },
);
