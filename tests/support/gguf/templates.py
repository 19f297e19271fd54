"""Chat templates with the shapes of those that GLM models come with, in words of our own.

They differ in what llama.cpp looks for: the tokens of roles, where thinking begins and ends, how tools are declared,
and how a call and its result are written.
"""

from __future__ import annotations

_TEXT_OF_CONTENT = """\
{%- macro text_of(content) -%}
{%- if content is string -%}{{ content }}
{%- elif content is iterable -%}
{%- for part in content -%}
{%- if part.type == 'text' -%}{{ part.text }}
{%- elif part.type in ['image', 'image_url'] -%}<|begin_of_image|><|image|><|end_of_image|>
{%- endif -%}
{%- endfor -%}
{%- endif -%}
{%- endmacro -%}
"""

# GLM-4-0414: tools in a system message, a call is the function's name on a line and its arguments as JSON.
GLM_4_0414 = (
    "[gMASK]<sop>"
    + _TEXT_OF_CONTENT
    + """\
{%- if tools -%}
<|system|>
# 可用工具
{%- for tool in tools -%}
{%- set function = tool.function if tool.function else tool %}

## {{ function.name }}

{{ function | tojson(indent=4) }}
以 JSON 写出参数。
{%- endfor -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message.role == 'tool' -%}
<|observation|>
{{ text_of(message.content) }}
{%- elif message.role == 'assistant' and message.tool_calls -%}
{%- for call in message.tool_calls -%}
{%- set function = call.function if call.function else call -%}
<|assistant|>{{ function.name }}
{{ function.arguments | tojson }}
{%- endfor -%}
{%- else -%}
<|{{ message.role }}|>
{{ text_of(message.content) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>{%- endif -%}"""
)

# GLM-Z1: the same, and every answer begins with thinking, which the history leaves out.
GLM_Z1 = (
    "[gMASK]<sop>"
    + _TEXT_OF_CONTENT
    + """\
{%- for message in messages -%}
{%- if message.role == 'assistant' -%}
<|assistant|>
{{ text_of(message.content).split('</think>')[-1].strip() }}
{%- else -%}
<|{{ message.role }}|>
{{ text_of(message.content) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}<|assistant|>
<think>
{%- endif -%}"""
)

# The number of the last question: what the model thought before it is left out.
_LAST_USER = """\
{%- set last = namespace(user=-1) -%}
{%- for message in messages -%}
{%- if message.role == 'user' -%}{%- set last.user = loop.index0 -%}{%- endif -%}
{%- endfor -%}
"""

# A message of the assistant in two parts.
_CONTENT_AND_THOUGHT = """\
{%- set content = text_of(message.content) -%}
{%- set thought = '' -%}
{%- if message.reasoning_content is string -%}
{%- set thought = message.reasoning_content -%}
{%- elif '</think>' in content -%}
{%- set thought = content.split('</think>')[0].split('<think>')[-1] -%}
{%- set content = content.split('</think>')[-1] -%}
{%- endif -%}
"""

_TOOLS_AS_XML = """\
{%- if tools -%}
<|system|>
# Tools

These functions may be called. Their signatures are between <tools></tools>:
<tools>
{% for tool in tools %}
{{ tool | tojson(ensure_ascii=False) }}
{% endfor %}
</tools>

Write a call so:
"""

# GLM-4.5 and 4.6: thinking can be turned off, a call has a line for each name and value.
GLM_4_5 = (
    "[gMASK]<sop>\n"
    + _TEXT_OF_CONTENT
    + _TOOLS_AS_XML
    + """\
<tool_call>{name}
<arg_key>{argument}</arg_key>
<arg_value>{value}</arg_value>
</tool_call>
{%- endif -%}
"""
    + _LAST_USER
    + """\
{%- for message in messages -%}
{%- if message.role == 'user' -%}
<|user|>
{{ text_of(message.content) }}{{ '/nothink' if enable_thinking is defined and not enable_thinking else '' }}
{%- elif message.role == 'assistant' -%}
"""
    + _CONTENT_AND_THOUGHT
    + """\
<|assistant|>
<think>{{ thought.strip() if loop.index0 > last.user else '' }}</think>
{%- if content.strip() -%}{{ '\\n' + content.strip() }}{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function if call.function else call %}
<tool_call>{{ function.name }}
{% for name, value in function.arguments.items() -%}
<arg_key>{{ name }}</arg_key>
<arg_value>{{ value if value is string else value | tojson(ensure_ascii=False) }}</arg_value>
{% endfor -%}
</tool_call>
{%- endfor -%}
{%- elif message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}<|observation|>{%- endif %}
<tool_response>
{{ text_of(message.content) }}
</tool_response>
{%- elif message.role == 'system' -%}
<|system|>
{{ text_of(message.content) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|assistant|>{{ '\\n<think></think>' if enable_thinking is defined and not enable_thinking else '' }}
{%- endif -%}"""
)

# GLM-4.7 and 4.7-Flash: no line ends around the tags, and the prompt itself opens the thinking or ends it.
GLM_4_7 = (
    "[gMASK]<sop>"
    + _TEXT_OF_CONTENT
    + _TOOLS_AS_XML
    + """\
<tool_call>{name}<arg_key>{argument}</arg_key><arg_value>{value}</arg_value></tool_call>
{%- endif -%}
"""
    + _LAST_USER
    + """\
{%- for message in messages -%}
{%- if message.role == 'user' -%}
<|user|>{{ text_of(message.content) }}
{%- elif message.role == 'assistant' -%}
"""
    + _CONTENT_AND_THOUGHT
    + """\
<|assistant|>
{%- if thought and (loop.index0 > last.user or (clear_thinking is defined and not clear_thinking)) -%}
<think>{{ thought.strip() }}</think>
{%- else -%}
</think>
{%- endif -%}
{%- if content.strip() -%}{{ content.strip() }}{%- endif -%}
{%- for call in message.tool_calls or [] -%}
{%- set function = call.function if call.function else call -%}
<tool_call>{{ function.name }}
{%- for name, value in function.arguments.items() -%}
<arg_key>{{ name }}</arg_key>
{#- -#}
<arg_value>{{ value if value is string else value | tojson(ensure_ascii=False) }}</arg_value>
{%- endfor -%}
</tool_call>
{%- endfor -%}
{%- elif message.role == 'tool' -%}
{%- if loop.first or messages[loop.index0 - 1].role != 'tool' -%}<|observation|>{%- endif -%}
<tool_response>{{ text_of(message.content) }}</tool_response>
{%- elif message.role == 'system' -%}
<|system|>{{ text_of(message.content) }}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
<|assistant|>{{ '</think>' if enable_thinking is defined and not enable_thinking else '<think>' }}
{%- endif -%}"""
)
