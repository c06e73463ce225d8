/** The result of one test in a report. */
export interface JunitResult {
  /** `SUITE: TEST`. */
  readonly name: string;
  readonly outcome: 'passed' | 'failed';
}

/** Reads a report in JUnit's XML, as h2spec writes it. Throws where there is nothing to read. */
export function readJunit(xml: string): readonly JunitResult[] {
  const cases = Array.from(xml.matchAll(/<testcase ([^>]*?)(?:\/>|>([^]*?)<\/testcase>)/g));
  if (cases.length === 0) throw new Error(`No report:\n${xml.slice(0, 1000)}`);
  return cases.map(([, attributes = '', inner = '']) => ({
    name: `${attributeOf(attributes, 'package')}: ${attributeOf(attributes, 'classname')}`,
    outcome: /<(?:failure|error|skipped)/.test(inner) ? 'failed' : 'passed',
  }));
}

function attributeOf(text: string, name: string): string {
  const value = new RegExp(`(?:^| )${name}="([^"]*)"`).exec(text)?.[1] ?? '';
  return value
    .replaceAll('&#34;', '"')
    .replaceAll('&#39;', "'")
    .replaceAll('&lt;', '<')
    .replaceAll('&amp;', '&');
}
