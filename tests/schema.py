# SPDX-License-Identifier: MIT
"""JSON Schema 2020-12, as much of it as spec/manifest.schema.json uses. A keyword that is not here is an error."""
import math
import re


def is_number(value):
    """A number, of which JSON has one kind, and bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


TYPES = {
    'object': lambda value: isinstance(value, dict),
    'array': lambda value: isinstance(value, list),
    'string': lambda value: isinstance(value, str),
    'number': is_number,
    'integer': lambda value: is_number(value) and math.isfinite(value) and value == int(value),
}


def equal(left, right):
    """Equality of JSON, in which true is not 1."""
    return left == right and isinstance(left, bool) == isinstance(right, bool)


class Schema:
    """A schema and what it says of values."""

    def __init__(self, root):
        self.root = root

    def allows(self, value, schema=None):
        """Whether a value is as the schema, or a part of it, wants it."""
        schema = self.root if schema is None else schema
        return all(getattr(self, 'check_' + keyword.replace('$', ''))(value, argument, schema) for keyword, argument in schema.items())

    def remark(self, _value, _argument, _schema):
        """Of keywords that allow everything."""
        return True

    check_schema = check_title = check_description = check_defs = remark

    def check_properties(self, value, properties, _schema):
        return not isinstance(value, dict) or all(self.allows(value[key], part) for key, part in properties.items() if key in value)

    def check_additionalProperties(self, value, part, schema):
        others = set(value) - set(schema.get('properties', ())) if isinstance(value, dict) else ()
        return not others if part is False else all(self.allows(value[key], part) for key in others)

    def check_propertyNames(self, value, part, _schema):
        return not isinstance(value, dict) or all(self.allows(key, part) for key in value)

    def check_required(self, value, keys, _schema):
        return not isinstance(value, dict) or all(key in value for key in keys)

    def check_items(self, value, part, _schema):
        return not isinstance(value, list) or all(self.allows(item, part) for item in value)

    def check_minItems(self, value, least, _schema):
        return not isinstance(value, list) or len(value) >= least

    def check_maxItems(self, value, most, _schema):
        return not isinstance(value, list) or len(value) <= most

    def check_minLength(self, value, least, _schema):
        return not isinstance(value, str) or len(value) >= least

    def check_minimum(self, value, least, _schema):
        return not is_number(value) or value >= least

    def check_maximum(self, value, most, _schema):
        return not is_number(value) or value <= most

    def check_pattern(self, value, pattern, _schema):
        # a final $ of Python lets a line feed follow
        return not isinstance(value, str) or re.search(re.sub(r'\$$', r'\\Z', pattern), value) is not None

    def check_type(self, value, name, _schema):
        return TYPES[name](value)

    def check_const(self, value, constant, _schema):
        return equal(value, constant)

    def check_enum(self, value, constants, _schema):
        return any(equal(value, constant) for constant in constants)

    def check_anyOf(self, value, parts, _schema):
        return any(self.allows(value, part) for part in parts)

    def check_allOf(self, value, parts, _schema):
        return all(self.allows(value, part) for part in parts)

    def check_not(self, value, part, _schema):
        return not self.allows(value, part)

    def check_ref(self, value, reference, _schema):
        part = self.root
        for step in reference.removeprefix('#/').split('/'):
            part = part[step]
        return self.allows(value, part)
