import { describe, expect, test } from 'bun:test';
import { PicketError } from '../shared/errors/errors.ts';
import { SERVER_CONFIG_EXAMPLE } from './config-example.ts';
import { parseServerConfig } from './config.ts';

const LEAST = { trust_domain: 'example.org', ca: { directory: '/etc/picket/ca/online' } };

function faultsOf(value: unknown): unknown {
  try {
    parseServerConfig(value);
  } catch (error) {
    if (error instanceof PicketError) return error.details?.['faults'];
    throw error;
  }
  return undefined;
}

describe('parseServerConfig()', () => {
  test('fills in defaults, which are those of the example', () => {
    expect(parseServerConfig(Bun.YAML.parse(SERVER_CONFIG_EXAMPLE))).toEqual(parseServerConfig(LEAST));
  });

  test('refuses a key that it does not know, wherever it stands, and names it', () => {
    expect(JSON.stringify(faultsOf({ ...LEAST, trustdomain: 'x' }))).toContain('trustdomain');
    expect(JSON.stringify(faultsOf({ ...LEAST, listen: { agent: '0.0.0.0:1' } }))).toContain('agent');
  });

  test('names every setting that is wrong at once', () => {
    const faults = JSON.stringify(
      faultsOf({
        trust_domain: 'No',
        ca: { directory: 'relative' },
        listen: { agents: 'here' },
        tpm: { pcrs: [24] },
      }),
    );
    for (const name of ['trust_domain', 'ca.directory', 'listen.agents', 'tpm.pcrs'])
      expect(faults).toContain(name);
  });

  test('takes names and addresses for the certificate, and has those by which the host calls itself', () => {
    const namesOf = (listen: object): readonly string[] =>
      parseServerConfig({ ...LEAST, listen }).listen.names;
    expect(namesOf({})).toEqual(expect.arrayContaining(['localhost', '127.0.0.1', '::1']) as never);
    const names = ['server.example.org', 'db-1', '10.0.0.1', '2001:db8::1'];
    expect(namesOf({ names })).toEqual(names);
    for (const bad of ['10.0.0.256', '1.2', 'UPPER', '-a', 'a b', '', '*.example.org', '::g', 'fe80::1%eth0'])
      expect(JSON.stringify(faultsOf({ ...LEAST, listen: { names: [bad] } }))).toContain('names');
  });

  test('refuses settings that contradict each other', () => {
    expect(faultsOf({ ...LEAST, tpm: { require_certificate: true } })).toBeDefined();
    expect(faultsOf({ ...LEAST, database: { url: 'postgres://a/b', url_file: '/c' } })).toBeDefined();
  });

  test('refuses what is no object of settings', () => {
    for (const value of [undefined, null, 'text', [], 7]) expect(faultsOf(value)).toBeDefined();
  });
});
