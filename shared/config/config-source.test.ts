import { describe, expect, test } from 'bun:test';
import { reasonOf } from '../../tests/kit/reason-of.ts';
import { readSettings } from './config-source.ts';

const read = (text: string, environment: Readonly<Record<string, string>> = {}) =>
  readSettings({
    text,
    path: '/etc/picket/server.yaml',
    environment,
    prefix: 'PICKET_SERVER',
    parseYaml: (yaml) => Bun.YAML.parse(yaml),
  });

describe('readSettings()', () => {
  test('reads YAML', () => {
    expect(read('trust_domain: example.org\nlisten:\n  agents: 0.0.0.0:8443\n')).toEqual({
      trust_domain: 'example.org',
      listen: { agents: '0.0.0.0:8443' },
    });
  });

  test('puts variables over the file, level by level, each value read as YAML', () => {
    const environment = {
      PICKET_SERVER__DATABASE__URL: 'postgres://db/picket',
      PICKET_SERVER__TPM__PCRS: '[0, 7]',
      PICKET_SERVER__TRUST_DOMAIN: 'other.org',
      PICKET_SERVER: 'https://server:8444',
      PICKET_AGENT__TRUST_DOMAIN: 'not-ours.org',
    };
    expect(read('trust_domain: example.org\ntpm: { pcrs: [1], require: true }\n', environment)).toEqual({
      trust_domain: 'other.org',
      database: { url: 'postgres://db/picket' },
      tpm: { pcrs: [0, 7], require: true },
    });
  });

  test.each(['[1, 2]', 'text', '', 'a: [', 'x'.repeat(1024 * 1024 + 1)])(
    'refuses what holds no settings: %#',
    (text) => {
      expect(reasonOf(() => read(text))).toBe('config_invalid');
    },
  );

  test('keeps a name such as __proto__ to itself', () => {
    const settings = read('a: 1', { PICKET_SERVER____PROTO____POLLUTED: 'true' });
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
    expect(Object.getPrototypeOf(settings)).toBe(Object.prototype);
  });
});
