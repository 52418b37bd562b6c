! fortran_bounds: advection of a tracer with weather stations; one rank indexes far outside.
!
! A field is cut into blocks of rows, one a rank; a halo row is not contiguous in Fortran, so it
! travels as a vector type. In each step a rank reads the report of its upper neighbour's station
! (a struct type) and nudges the column that the report names.
!
! Bug:    A station that fell silent reports the meteorologists' "missing value", -999999999, as
!         its column. assimilate uses it as an index without a look at it.
! Ranks:  4 (any number from 3)
! Expect: SIGSEGV on rank 3 in assimilate
! See:    The report comes from rank 2, whose station falls silent at the failing step.
!
! Usage: fortran_bounds [STEPS [FAILING_STEP]]     FAILING_STEP 0: no rank fails
module advection
    use mpi
    implicit none
    integer, parameter :: ny = 96, nx = 512
    integer, parameter :: missing = -999999999, silent_rank = 2
    integer, parameter :: tag_up = 1, tag_down = 2, tag_report = 3

    type report_t
        sequence
        double precision :: value
        integer :: column
        integer :: quality
    end type

    type block_t
        double precision, allocatable :: field(:, :), next(:, :)   ! (0:ny+1, 0:nx+1)
        integer :: rank, above, below
        integer :: halo_row, report                                ! MPI datatypes
    end type

contains

    subroutine block_create(block, rank, ranks)
        type(block_t), intent(out) :: block
        integer, intent(in) :: rank, ranks
        integer :: i, j

        allocate (block%field(0:ny + 1, 0:nx + 1), block%next(0:ny + 1, 0:nx + 1))
        do j = 0, nx + 1
            do i = 0, ny + 1
                block%field(i, j) = 1d0 + sin(0.01d0*(i + rank*ny))*cos(0.02d0*j)
            end do
        end do
        block%next = block%field
        block%rank = rank
        block%above = modulo(rank - 1, ranks)
        block%below = modulo(rank + 1, ranks)
        call create_types(block)
    end subroutine

    subroutine create_types(block)
        type(block_t), intent(inout) :: block
        integer(MPI_ADDRESS_KIND) :: displacements(2)
        integer :: ierr

        call MPI_Type_vector(nx, 1, ny + 2, MPI_DOUBLE_PRECISION, block%halo_row, ierr)
        call MPI_Type_commit(block%halo_row, ierr)
        displacements = [0, storage_size(0d0)/8]   ! a sequence type has no gaps here
        call MPI_Type_create_struct(2, [1, 2], displacements, &
                                    [MPI_DOUBLE_PRECISION, MPI_INTEGER], block%report, ierr)
        call MPI_Type_commit(block%report, ierr)
    end subroutine

    subroutine exchange(block)
        type(block_t), intent(inout) :: block
        integer :: requests(4), ierr

        call MPI_Irecv(block%field(0, 1), 1, block%halo_row, block%above, tag_down, &
                       MPI_COMM_WORLD, requests(1), ierr)
        call MPI_Irecv(block%field(ny + 1, 1), 1, block%halo_row, block%below, tag_up, &
                       MPI_COMM_WORLD, requests(2), ierr)
        call MPI_Isend(block%field(1, 1), 1, block%halo_row, block%above, tag_up, &
                       MPI_COMM_WORLD, requests(3), ierr)
        call MPI_Isend(block%field(ny, 1), 1, block%halo_row, block%below, tag_down, &
                       MPI_COMM_WORLD, requests(4), ierr)
        call MPI_Waitall(4, requests, MPI_STATUSES_IGNORE, ierr)
    end subroutine

    ! What the rank's own station says at this step.
    function station_report(block, step, failing) result(report)
        type(block_t), intent(in) :: block
        integer, intent(in) :: step, failing
        type(report_t) :: report

        report%column = 1 + modulo(37*step, nx)
        report%value = block%field(ny/2, report%column)
        report%quality = 1
        if (failing > 0 .and. step >= failing .and. block%rank == silent_rank) then
            call MPI_Pcontrol(2)   ! here: the wrong index is made
            report%column = missing
            report%quality = 0
        end if
    end function

    subroutine assimilate(field, report)
        double precision, intent(inout) :: field(0:ny + 1, 0:nx + 1)
        type(report_t), intent(in) :: report

        field(ny/2, report%column) = 0.9d0*field(ny/2, report%column) + 0.1d0*report%value
    end subroutine

    ! One upwind step towards larger indices of both dimensions.
    subroutine advect(block)
        type(block_t), intent(inout) :: block
        integer :: i, j

        do j = 1, nx
            do i = 1, ny
                block%next(i, j) = block%field(i, j) &
                                   - 0.3d0*(block%field(i, j) - block%field(i - 1, j)) &
                                   - 0.2d0*(block%field(i, j) - block%field(i, j - 1))
            end do
        end do
        block%field(1:ny, 1:nx) = block%next(1:ny, 1:nx)
    end subroutine

    subroutine print_total(block, step)
        type(block_t), intent(in) :: block
        integer, intent(in) :: step
        double precision :: mine, total
        integer :: ierr

        mine = sum(block%field(1:ny, 1:nx))
        call MPI_Reduce(mine, total, 1, MPI_DOUBLE_PRECISION, MPI_SUM, 0, MPI_COMM_WORLD, ierr)
        if (block%rank /= 0) return
        print '(a, i0, a, f0.6)', 'step ', step, ': tracer ', total
        flush (6)
    end subroutine
end module

program fortran_bounds
    use advection
    implicit none
    type(block_t) :: block
    type(report_t) :: mine, theirs
    integer :: steps, failing, step, rank, ranks, ierr
    integer :: status(MPI_STATUS_SIZE)

    steps = argument(1, 1500)
    failing = argument(2, steps - steps/10)
    call MPI_Init(ierr)
    call MPI_Comm_rank(MPI_COMM_WORLD, rank, ierr)
    call MPI_Comm_size(MPI_COMM_WORLD, ranks, ierr)
    call block_create(block, rank, ranks)

    call MPI_Pcontrol(1)   ! here: all is set up
    do step = 1, steps
        call exchange(block)
        mine = station_report(block, step, failing)
        call MPI_Sendrecv(mine, 1, block%report, block%below, tag_report, &
                          theirs, 1, block%report, block%above, tag_report, &
                          MPI_COMM_WORLD, status, ierr)
        call assimilate(block%field, theirs)
        call advect(block)
        if (modulo(step, 100) == 0) call print_total(block, step)
    end do
    call MPI_Type_free(block%halo_row, ierr)
    call MPI_Type_free(block%report, ierr)
    call MPI_Finalize(ierr)

contains

    integer function argument(position, default)
        integer, intent(in) :: position, default
        character(len=32) :: text

        argument = default
        if (command_argument_count() < position) return
        call get_command_argument(position, text)
        read (text, *) argument
    end function
end program
