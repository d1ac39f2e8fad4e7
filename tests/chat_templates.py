"""Chat templates written for tests, in the structure of those of known families."""

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)

LLAMA_3 = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\nToday Date: " + date_string + "<|eot_id|>" }}
{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""

GPT_OSS = """
{%- macro build_system_message() -%}
    {{- "Knowledge cutoff: 2024-06\\nCurrent date: " + strftime_now("%Y-%m-%d") + "\\n\\n" }}
    {%- if reasoning_effort is not defined %}
        {%- set reasoning_effort = "medium" %}
    {%- endif %}
    {{- "Reasoning: " + reasoning_effort + "\\n" }}
{%- endmacro -%}
{{- "<|start|>system<|message|>" }}
{{- build_system_message() }}
{{- "<|end|>" }}
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- "<|start|>user<|message|>" + message.content + "<|end|>" }}
    {%- elif loop.last and not add_generation_prompt %}
        {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|return|>" }}
    {%- else %}
        {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- "<|start|>assistant" }}{%- endif %}
"""

QWEN_3 = """
{%- for message in messages %}
    {%- if message.role == 'user' %}
        {{- '<|im_start|>user\\n' + message.content + '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
        {{- message.content.lstrip('\\n') + '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}
"""

QWEN_3_THINKING = """
{%- for message in messages %}
    {{- '<|im_start|>' + message.role + '\\n' }}
    {%- if message.role == 'assistant' and loop.last %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
    {{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n<think>\\n' }}{%- endif %}
"""

DEEPSEEK_R1 = """{{ bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{- '<｜User｜>' + message.content }}
    {%- else %}
        {%- set content = message.content %}
        {%- if '</think>' in content %}{%- set content = content.split('</think>')[-1] %}{%- endif %}
        {{- '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<｜Assistant｜><think>\\n' }}{%- endif %}
"""

DEEPSEEK_31 = """{%- if not thinking is defined %}{%- set thinking = false %}{%- endif %}
{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'user' %}{{- '<｜User｜>' + message.content }}
    {%- else %}{{- '<｜Assistant｜></think>' + message.content + '<｜end▁of▁sentence｜>' }}{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<｜Assistant｜>' }}{%- if thinking %}{{- '<think>' }}{%- else %}{{- '</think>' }}{%- endif %}
{%- endif %}
"""

GLM_45 = """[gMASK]<sop>
{%- for m in messages %}
    {%- if m.role == 'user' %}<|user|>
{{ m.content }}
        {{- '/nothink' if (enable_thinking is defined and not enable_thinking) else '' -}}
    {%- else %}<|assistant|>
{{ '<think></think>\\n' + m.content }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|assistant|>
    {{- '\\n<think></think>' if (enable_thinking is defined and not enable_thinking) else '' -}}
{%- endif %}"""

GRANITE = """
{%- set system = "You are Granite." %}
{%- if thinking %}{%- set system = system + " Think between <think> and </think>." %}{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + system + '<|end_of_text|>\\n' }}
{%- for m in messages %}
    {{- '<|start_of_role|>' + m.role + '<|end_of_role|>' + m.content + '<|end_of_text|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_of_role|>assistant<|end_of_role|>' }}{%- endif %}
"""

SMOLLM_3 = """
{%- set enable_thinking = enable_thinking if enable_thinking is defined else true %}
{{- "<|im_start|>system\\nToday Date: " + strftime_now("%d %B %Y") + "\\nReasoning Mode: " }}
{{- ("/think" if enable_thinking else "/no_think") + "<|im_end|>\\n" }}
{%- for m in messages %}
    {{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\\n" + ("" if enable_thinking else "<think>\\n\\n</think>\\n") }}
{%- endif %}
"""

COHERE = """{{ bos_token }}
{%- if reasoning is not defined %}{%- set reasoning = true %}{%- endif %}
{%- for m in messages %}
    {%- if m.role == 'user' %}
        {{- '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + m.content + '<|END_OF_TURN_TOKEN|>' }}
    {%- else %}
        {{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}
        {%- if not reasoning %}{{- '<|START_THINKING|><|END_THINKING|>' }}{%- endif %}
        {{- '<|START_RESPONSE|>' + m.content + '<|END_RESPONSE|><|END_OF_TURN_TOKEN|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}
    {%- if reasoning %}{{- '<|START_THINKING|>' }}
    {%- else %}{{- '<|START_THINKING|><|END_THINKING|>' }}{%- endif %}
{%- endif %}
"""

SEED_OSS = """
{%- for m in messages %}
    {{- '<seed:bos>' + m.role + '\\n' + m.content + '<seed:eos>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<seed:bos>assistant\\n' }}
    {%- if thinking_budget is defined and thinking_budget == 0 %}
        {{- '<seed:think>\\n</seed:think>' }}
    {%- endif %}
{%- endif %}
"""

MISTRAL = """{{ bos_token }}
{%- if (messages[0].role == 'system') %}{{ raise_exception('no system') }}{%- endif %}
{%- for m in messages %}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/...') }}
    {%- endif %}
    {%- if m.role == 'user' %}{{- ' [INST] ' + m.content + ' [/INST]' }}
    {%- else %}{{- ' ' + m.content + eos_token }}{%- endif %}
{%- endfor %}
"""

# As those of vision models: content is a list, and a string prints nothing.
LIST_CONTENT = """
{%- for m in messages %}
    {{- '<|' + m.role + '|>' }}
    {%- for part in m.content %}
        {%- if part.type == 'image' %}{{- '<image>' }}
        {%- elif part.type == 'text' %}{{- part.text }}{%- endif %}
    {%- endfor %}
    {{- '<end>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|assistant|>' }}{%- endif %}
"""

LIST_CONTENT_STRICT = """
{%- for m in messages %}<|{{ m.role }}|>{{ m.content[0]['text'] }}<end>{% endfor %}<|assistant|>"""
