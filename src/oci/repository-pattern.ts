// SPDX-FileCopyrightText: 2026 The ha-registry authors
// SPDX-License-Identifier: EUPL-1.2

/** Repository names by a pattern, in which `*` stands for anything but a slash, `**` for anything. */
export function repositoryPattern(glob: string): RegExp {
  const source = glob.replace(/\*\*|\*|[\\^$.|?+()[\]{}]/g, (part) => (part === '**' ? '.*' : part === '*' ? '[^/]*' : `\\${part}`));
  return new RegExp(`^${source}$`);
}
