/* SPDX-License-Identifier: Apache-2.0 */
/* How every test guest begins: a multiboot header, a stack, main(magic, information); and where further processors begin. */
	.section .text.start, "ax"
	.code32
	.align 4
	.long 0x1badb002, 0, -0x1badb002
	.globl _start
_start:
	movl $stack_end, %esp
	/* Descriptors of our own: a loader's need not stay where they are. */
	lgdt gdt_pointer
	ljmp $0x08, $1f
1:	movw $0x10, %cx
	movw %cx, %ds
	movw %cx, %es
	movw %cx, %ss
	pushl %ebx
	pushl %eax
	call main
	outb %al, $0xf4
2:	hlt
	jmp 2b

	/* For other processors: copied to a page below 1 MiB, entered in real mode by SIPI. Counts itself, and stays. */
	.globl processor_start, processor_end
	.code16
processor_start:
	xorw %ax, %ax
	movw %ax, %ds
	lock incl 0x7ff0
3:	hlt
	jmp 3b
processor_end:
	.code32

	/* Handlers of interrupts: the first sixteen lines from vector 0x20 on. */
	.globl interrupt_4
interrupt_4:
	pusha
	call on_serial
	popa
	/* No iret: KVM's emulator, where it has to run ring 0, knows it in real mode only. Interrupts stay off until the next sti. */
	pushl 8(%esp)
	andl $~0x200, (%esp)
	popf
	ret $8
	.weak on_serial
on_serial:
	ret

	.data
	.align 8
gdt:	.quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt

	.bss
	.align 16
	.skip 16384
	.globl stack_end
stack_end:
